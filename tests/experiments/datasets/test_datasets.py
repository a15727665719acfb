"""Who knows these data sets by name: TFDS, the launcher and a process that unpickles one."""

import pathlib
import pickle
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from experiments import datasets
from experiments.datasets import Digits8x8
from zoo.data import open_labelled

FOLDER = pathlib.Path(datasets.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def run(*command):
    """A fresh process, which knows no more than it imports itself."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True)


def test_the_package_imports_every_file():
    # The bases and `png` are for data sets of one's own.
    found = [n for n in datasets.__all__ if n != "png" and not n.endswith("Builder")]
    assert sorted(getattr(datasets, name).name for name in found) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_tfds_knows_each_by_name(name):
    assert tfds.builder_cls(name).__module__ == f"experiments.datasets.{name}"
    builder = tfds.builder(name)  # Without its folder: preparing asks for it.
    assert "label" in builder.info.features
    assert pickle.loads(pickle.dumps(builder)).data_dir == builder.data_dir


def test_importing_one_makes_all_known():
    names = f"[tfds.builder_cls(name).name for name in {NAMES}]"
    code = f"import tensorflow_datasets as tfds, experiments.datasets.camvid; print({names})"
    done = run("-c", code)
    assert done.stdout == f"{NAMES}\n", done.stderr


def test_zoo_alone_knows_none_and_says_how_to():
    code = "from zoo.data import open_labelled; open_labelled('digits8x8', 'test')"
    error = run("-c", code).stderr.splitlines()[-1]
    assert "no data set 'digits8x8'; give any name that TFDS" in error
    assert "import its module first (ours: import experiments.datasets)" in error


@pytest.mark.slow
def test_the_launcher_knows_those_of_other_experiments(tmp_path):
    """unet_pets names a set of TFDS's own and imports none of these."""
    options = ["--set=data.name=camvid", f"--set=data.path={tmp_path}"]
    done = run("-m", "experiments.launch", "unet_pets", "--dry-run", *options)
    assert done.returncode == 2 and "The folder of camvid cannot be read" in done.stderr


def test_a_worker_that_unpickles_a_source_can_read_it(tmp_path):
    source = open_labelled(Digits8x8.name, "test")
    (tmp_path / "source").write_bytes(pickle.dumps(source))
    code = f"import pickle; source = pickle.load(open({str(tmp_path / 'source')!r}, 'rb'))"
    done = run("-c", f"{code}; print(source[3]['image'].sum(), source.labels.sum())")
    assert done.stdout.split() == [str(source[3]["image"].sum()), str(source.labels.sum())]
