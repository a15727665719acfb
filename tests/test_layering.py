"""Imports go one way (DESIGN, "The house"): read from the sources, so that lazy ones count too."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What each layer may import of zoo besides itself. `zoo` is the package's own two files.
MAY_IMPORT = {
    "ops": set(),
    "models": {"ops"},
    "losses": {"ops"},
    "metrics": {"ops"},
    "data": set(),
    "train": {"ops", "losses", "metrics", "data"},
    "infer": {"ops", "models", "losses", "metrics", "data", "train"},
    "zoo": {"infer"},
    # Of experiments, but they know none: folders of one's own, and data sets beside each other.
    "folders": {"data"},
    "datasets": {"data", "folders"},
    "experiments": {
        "ops",
        "models",
        "losses",
        "metrics",
        "data",
        "train",
        "infer",
        "folders",
        "datasets",
    },
}
# Not even by way of a package that imports them: data must stand without JAX, ops without Flax.
FORBIDDEN = {
    "ops": {"flax", "optax"},
    "losses": {"flax"},
    "metrics": {"flax", "optax"},
    "models": {"optax"},
    "data": {"jax", "flax", "optax", "chex", "orbax"},
}
FORBIDDEN["datasets"] = FORBIDDEN["folders"] = FORBIDDEN["data"]
# In any file of zoo or of data sets. Training draws nothing: pictures are experiments.report's.
NEVER = {"tensorflow", "torch", "matplotlib", "jinja2", "experiments", "tests"}


def layer(path: pathlib.PurePath) -> str:
    """The layer a file of the repository lies in."""
    parts = path.parts
    nested = parts[0] == "zoo" or parts[1] in ("folders", "datasets")
    return parts[1] if nested and len(parts) > 2 else parts[0]


def imported(source: str, package: str) -> set[str]:
    """The dotted names a source imports anywhere, relative ones resolved against its package."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*(base if node.level else []), *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


def faults(path: pathlib.PurePath, source: str) -> list[str]:
    """What a file imports against the rules."""
    own = layer(path)
    found = []
    for name in sorted(imported(source, ".".join(path.parts[:-1]))):
        top, _, rest = name.partition(".")
        if top == "zoo" or name.startswith(("experiments.folders", "experiments.datasets")):
            other = rest.split(".")[0]
            other = other if other in MAY_IMPORT else "zoo"
            bad = other != own and other not in MAY_IMPORT[own]
        else:
            bad = top in FORBIDDEN.get(own, ()) or (top in NEVER and own != "experiments")
        if bad:
            found.append(f"{path}: {own} must not import {name}")
    return found


def sources() -> list[pathlib.Path]:
    return sorted([*ROOT.glob("zoo/**/*.py"), *ROOT.glob("experiments/**/*.py")])


def test_imports_go_one_way():
    paths = sources()
    assert {layer(path.relative_to(ROOT)) for path in paths} == set(MAY_IMPORT)
    found = [f for path in paths for f in faults(path.relative_to(ROOT), path.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_zoo_knows_no_data_set_of_the_experiments_by_name():
    """What one of them needs lies beside it; any other finds it by importing its module."""
    names = [path.stem for path in ROOT.glob("experiments/datasets/[!_]*.py")]
    assert "camvid" in names
    for path in ROOT.glob("zoo/**/*.py"):
        text = path.read_text("utf-8").lower()
        found = [n for n in names if n in text or n.replace("_", "") in text]
        assert not found, f"{path} names {found}"


def test_one_file_knows_devices():
    """train/parallel.py, of zoo."""
    devices = {"pmap", "shard_map", "make_mesh", "Mesh", "devices", "local_devices"}
    places = {"zoo/train/parallel.py", "experiments/environment.py"}
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "jax"
        }
        assert name in places or not used & devices, f"{name} uses {used & devices}"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("zoo/ops/a.py", "from zoo.models import UNet"),
        ("zoo/ops/a.py", "import flax.linen"),
        ("zoo/models/a.py", "from zoo import losses"),
        ("zoo/models/a.py", "from ..losses import pixel"),
        ("zoo/losses/a.py", "import zoo.models.unet as unet"),
        ("zoo/metrics/a.py", "import zoo.losses"),
        ("zoo/data/a.py", "import jax.numpy as jnp"),
        ("zoo/data/a.py", "def f():\n    from jax import numpy"),
        ("zoo/data/a.py", "from zoo.ops import upsample"),
        ("zoo/train/a.py", "from zoo.models.unet import UNet"),
        ("zoo/train/a.py", "from zoo import load"),
        ("zoo/train/a.py", "import importlib\nimportlib.import_module('experiments.quickstart')"),
        ("zoo/train/a.py", "from zoo.infer import predict"),
        ("zoo/infer/a.py", "from experiments import launch"),
        ("zoo/data/a.py", "import tensorflow as tf"),
        ("zoo/data/a.py", "from experiments.datasets import Camvid"),
        ("zoo/train/a.py", "def f():\n    import experiments.datasets.camvid"),
        ("experiments/datasets/a.py", "from zoo.models import UNet"),
        ("experiments/datasets/a.py", "from experiments import quickstart"),
        ("experiments/datasets/a.py", "import jax"),
        ("zoo/__main__.py", "from zoo.models import UNet"),
        ("zoo/infer/a.py", "import torch"),
        ("zoo/train/a.py", "def f():\n    from matplotlib.figure import Figure"),
    ],
)
def test_an_arrow_the_wrong_way_is_found(path, source):
    assert len(faults(pathlib.PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("zoo/models/a.py", "from zoo.ops.upsample import upsample_bilinear"),
        ("zoo/models/a.py", "from .layers import Block\nfrom ..ops import upsample"),
        ("zoo/data/a.py", "import grain, numpy\nimport tensorflow_datasets as tfds"),
        ("zoo/train/a.py", "from zoo.train import config\nfrom zoo.data.source import Info"),
        ("zoo/__init__.py", "from zoo.infer.load import load"),
        ("experiments/a.py", "import experiments\nfrom zoo.models import UNet"),
        ("experiments/a.py", "from experiments.datasets import Camvid"),
        ("experiments/datasets/a.py", "from experiments.datasets.b import f\nimport zoo.data.info"),
    ],
)
def test_an_arrow_the_right_way_is_let_pass(path, source):
    assert faults(pathlib.PurePosixPath(path), source) == []
