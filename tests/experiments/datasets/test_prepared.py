"""Prepared copies: never half-written, never another source's."""

import os
import signal
import subprocess
import sys

import pytest

from experiments.datasets import Digits8x8, DigitScenes, ImageFolderMasks
from zoo.data import open_source

SMALL = {"train_scenes": 12, "validation_scenes": 2, "test_scenes": 3}


def digits():
    return open_source(DigitScenes.name, "train", options=SMALL)


def run(code, cache):
    environment = os.environ | {"ZOO_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_kill_while_preparing_leaves_nothing_that_is_used(tmp_path, monkeypatch):
    kill = (
        "import os, signal\n"
        "from experiments.datasets import digit_scenes\n"
        "count, whole = [], digit_scenes.scene\n"
        "def scene(*a):\n"
        "    count.append(1)\n"
        "    return whole(*a) if len(count) < 8 else os.kill(os.getpid(), signal.SIGKILL)\n"
        "digit_scenes.scene = scene\n"
        f"digit_scenes.DigitScenes(**{SMALL}).download_and_prepare()\n"
    )
    process = run(kill, tmp_path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*incomplete*"))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    source = digits()
    assert [e["name"] for e in source] == [f"train_{i:05d}" for i in range(12)]
    assert not list(tmp_path.rglob("*incomplete*"))


@pytest.mark.slow
def test_processes_that_begin_at_once_share_one_prepared_copy(tmp_path):
    code = (
        "import experiments.datasets\n"
        "from zoo.data import open_source\n"
        f"source = open_source('digit_scenes', 'train', options={SMALL})\n"
        "print(sum(int(e['image'].sum()) for e in source))"
    )
    processes = [run(code, tmp_path) for _ in range(2)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    want = str(sum(int(e["image"].sum()) for e in digits()))
    assert [out.strip() for out, _ in outputs] == [want, want]
    assert sum("Preparing" in err for _, err in outputs) == 1


def test_other_options_never_meet_the_same_copy(tmp_path):
    places = {
        DigitScenes(data_dir=tmp_path, **options).data_dir
        for options in ({}, {"size": 96}, {"test_scenes": 5}, {"train_scenes": 5})
    }
    assert len(places) == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("builder", "option", "value", "words"),
    [
        (DigitScenes, "train_scenes", True, "train_scenes must be int; got True, a bool"),
        (DigitScenes, "size", 64.0, "size must be int; got 64.0, a float"),
        (Digits8x8, "joined", True, "joined must be int; got True, a bool"),
        (ImageFolderMasks, "test_share", False, "test_share must be float; got False, a bool"),
    ],
)
def test_an_option_of_another_type_is_refused(builder, option, value, words):
    """True would be 1 scene."""
    with pytest.raises(ValueError, match=words):
        builder(**{option: value})


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"Not a directory.*variable ZOO_CACHE names"):
        digits()
