"""What every test shares. The environment is set before anything imports JAX."""

import gc
import importlib
import os
import pathlib
import tempfile

# Tests never touch the user's cache. What one test prepared or compiled serves the next, also in
# the other workers of pytest-xdist, which inherit the environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _SESSION = tempfile.TemporaryDirectory(prefix="zoo-tests-")
    os.environ["ZOO_CACHE"] = _SESSION.name
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The default, 700, has the tests search what JAX holds, in vain, for a twentieth of their time.
gc.set_threshold(100_000, 50, 1000)
_FLAG = "--xla_force_host_platform_device_count"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=8".strip()

import jax  # noqa: E402
import pytest  # noqa: E402

pytest.register_assert_rewrite("support", "batch_triplets", "dense_nets", "serving")

# "Equal to t" is meant at this precision (DESIGN); CPU has it anyway, accelerators do not.
jax.config.update("jax_default_matmul_precision", "highest")
jax.devices()  # With the flags as they are: a test may change them (`use_all_cores`).


@pytest.fixture(autouse=True)
def flags(monkeypatch):
    """What a test does to the flags is undone: processes that others start are to have these."""
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])


def pytest_addoption(parser):
    parser.addoption(
        "--one-case",
        action="store_true",
        help="of a test's cases only the first; of the contract's, the first of each model",
    )


def pytest_collection_modifyitems(config, items):
    """With --one-case: for versions of packages that differ in what they offer, not in numbers."""
    if not config.getoption("--one-case"):
        return
    first = {}
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        contract = params.get("name") if item.path.name == "test_contract.py" else None
        first.setdefault((item.path, item.originalname, contract), item)
    kept = set(first.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = first.values()


@pytest.fixture(params=["jit", "eager"])
def variant(request):
    """Wraps a function of arrays: as it stands, and under `jax.jit`."""
    return jax.jit if request.param == "jit" else lambda function: function


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real pictures: $ZOO_SHARED_DATA, or shared/data beside the checkout."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(os.environ.get("ZOO_SHARED_DATA") or beside)
    if not path.is_dir():
        pytest.skip(f"no shared data: set ZOO_SHARED_DATA ({path} is missing)")
    return path


@pytest.fixture(scope="session")
def peer():
    """Imports a library of the `peers` extra by name; skips where it is not installed."""

    def load(name: str):
        torch = pytest.importorskip("torch", reason="peers not installed")
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            # PyPI's torchvision is built for CUDA. Beside a CPU torch its compiled operators do not
            # load, and its import, so that of torchmetrics and timm too, fails where it gives
            # these two a shape. No test calls them: a declaration is enough.
            for op in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{op}", schema)
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def keras():
    """Keras on JAX; skips where it is not installed."""
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras", reason="peers not installed")
