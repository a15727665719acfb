"""The loop on a small experiment: resume, SIGKILL, signals, nan, early stopping."""

import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from experiments.datasets import DigitScenes
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import UNet
from zoo.train import checkpoint, logs, loop
from zoo.train.checkpoint import Checkpoints
from zoo.train.config import Experiment, Optimizer
from zoo.train.parallel import Layout
from zoo.train.run import Run
from zoo.train.segmentation import Segmentation

STEPS = 24
ENDED = []  # What `finish` of the run `finished` was called with, and what was logged by then.


def experiment(**fields) -> Experiment:
    """Everything that carries state: momentum, EMA, batch statistics, dropout, augmentation."""
    return Experiment(
        **{
            "task": Segmentation(),
            "model": UNet(num_classes=11, width=4, depth=2, norm="batch", dropout_rate=0.5),
            "data": Data(
                name=DigitScenes.name,
                batch_size=8,
                options={"train_scenes": 20, "validation_scenes": 9, "test_scenes": 8},
                augment=Augment(flip=True, brightness=0.1),
            ),
            "optimizer": Optimizer(name="adam", learning_rate=1e-2, schedule="cosine", ema=0.9),
            "steps": STEPS,
            "log_every": 4,
            "eval_every": 8,
            "checkpoint_every": 4,
            **fields,
        }
    )


def lines(workdir):
    found = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("images_per_second", None)
        line.pop("time", None)
    return found


def arrays(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    step = max(checkpoints.steps())
    found, _ = checkpoints.read(step)
    checkpoints.close()
    return step, found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never stopped; `ENDED` is told of its end."""
    workdir = tmp_path_factory.mktemp("finished")
    finish = lambda *given: ENDED.append((lines(workdir), *given))  # noqa: E731
    scores = loop.train("small", experiment(), workdir, Layout(), finish=finish)
    return workdir, scores


def test_a_workdir_holds_what_design_promises(finished):
    workdir, scores = finished
    names = {path.name for path in workdir.iterdir()}
    assert {
        "experiment.json", "metrics.jsonl", "checkpoints", "tensorboard",
    } == names  # fmt: skip
    found = lines(workdir)
    train = [x for x in found if x["split"] == "train"]
    assert [x["step"] for x in train] == list(range(4, STEPS + 1, 4))
    assert all(np.isfinite(x["loss"]) for x in train)
    validation = [x for x in found if x["split"] == "validation"]
    assert [x["step"] for x in validation[:3]] == [8, 16, 24]
    assert scores["split"] == "validation" and 0 <= scores["mean_iou"] <= 1
    best = max(validation[:3], key=lambda x: x["mean_iou"])
    assert scores["step"] == best["step"]
    np.testing.assert_allclose(scores["mean_iou"], best["mean_iou"], rtol=1e-6)


def test_finish_is_called_once_when_all_is_kept(finished):
    workdir, scores = finished
    [(logged, run, variables, results, found, where, log)] = ENDED
    assert logged == lines(workdir) and found == scores and where == workdir
    assert run.task.scores(results)["iou"] == scores["iou"]
    best, _ = checkpoint.load_variables(workdir)
    jax.tree.map(np.testing.assert_array_equal, variables, best)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(variables))
    assert log.headline == "mean_iou"


def test_rate_and_speed_are_logged(tmp_path, monkeypatch):
    """By a clock that gains a second whenever it is read: when the counting begins and ends."""
    clock = itertools.count()
    monkeypatch.setattr(
        loop, "time", types.SimpleNamespace(perf_counter=lambda: float(next(clock)))
    )
    rule = Optimizer(name="sgd", learning_rate=0.1, schedule="polynomial", power=2.0)
    model = UNet(num_classes=11, width=1, depth=1)
    often = {"log_every": 3, "eval_every": 6, "checkpoint_every": 6}
    small = experiment(model=model, optimizer=rule, steps=6, **often)
    loop.train("small", small, tmp_path, Layout(devices=jax.devices()[:1]))
    train = [x for x in logs.read_metrics(tmp_path) if x["split"] == "train"]
    # The third step's rate is that after two; the first step, which compiles, is not counted.
    np.testing.assert_allclose(
        [x["learning_rate"] for x in train], [0.1 * (1 - n / 6) ** 2 for n in (2, 5)], rtol=1e-5
    )
    assert [x["images_per_second"] for x in train] == [2 * 8, 3 * 8]


def test_evaluate_gives_the_scores_of_training(finished):
    workdir, scores = finished
    again = loop.evaluate(experiment(), workdir, Layout())
    assert again["step"] == scores["step"]
    assert again["mean_iou"] == scores["mean_iou"]
    one = Layout(devices=jax.devices()[:1])
    np.testing.assert_allclose(
        loop.evaluate(experiment(), workdir, one)["iou"], scores["iou"], atol=1e-3
    )
    test = loop.evaluate(experiment(split="test"), workdir, Layout(), which="latest")
    assert test["split"] == "test" and test["step"] == STEPS


@pytest.mark.slow
def test_a_finished_run_is_only_scored_again(finished):
    workdir, scores = finished
    before = lines(workdir)
    assert loop.train("small", experiment(), workdir, Layout()) == scores
    assert lines(workdir) == before


@pytest.mark.slow
def test_more_steps_go_on_where_it_ended(finished, tmp_path):
    workdir = tmp_path / "run"
    constant = Optimizer(name="sgd", learning_rate=1e-2)
    loop.train("small", experiment(optimizer=constant, steps=8), workdir, Layout())
    loop.train("small", experiment(optimizer=constant, steps=12), workdir, Layout())
    step, _ = arrays(workdir)
    assert step == 12


def child(workdir):
    """Trains in a process of its own, as the launcher does."""
    program = (
        f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})\n"
        "import test_loop, pathlib\n"
        "from zoo.train import loop\n"
        "from zoo.train.parallel import Layout\n"
        f"loop.train('small', test_loop.experiment(), pathlib.Path({str(workdir)!r}), Layout())\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, process, seconds=180):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition never came"
        if process.poll() is not None:
            raise AssertionError(f"ended before: {process.stderr.read()}")
        time.sleep(0.001)


def saving(workdir):
    """Whether a checkpoint is being written just now: Orbax's temporary folder stands."""
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


@pytest.mark.slow
def test_three_kills_leave_no_trace(finished, tmp_path):
    """SIGKILL in the middle of a save, then at two random moments; then to the end."""
    workdir = tmp_path / "killed"

    process = child(workdir)

    def stands_in_a_save():
        """Whether it is held in the middle of one that is not its first; if not, it goes on."""
        whole = any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*"))
        if not (saving(workdir) and whole):
            return False
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if not saving(workdir):
            process.send_signal(signal.SIGCONT)
        return saving(workdir)

    wait_until(stands_in_a_save, process)
    process.kill()
    process.communicate()
    assert saving(workdir), "the kill was to hit a save"

    for seed in range(2):
        process = child(workdir)
        start = (workdir / "metrics.jsonl").stat().st_size
        wait_until(lambda s=start: (workdir / "metrics.jsonl").stat().st_size != s, process)
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    process = child(workdir)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors

    step, got = arrays(workdir)
    want_step, want = arrays(finished[0])
    assert step == want_step == STEPS and got.keys() == want.keys()
    assert {name.split("/")[0] for name in got} == {
        "step", "params", "batch_stats", "opt_state", "ema",
    }  # fmt: skip
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    assert lines(workdir) == lines(finished[0])


def test_the_next_batch_depends_on_seed_and_step_alone():
    first = Run(experiment(), Layout()).batches(0)
    for _ in range(5):
        want = next(first)
    got = next(Run(experiment(), Layout()).batches(4))
    other = next(Run(experiment(seed=1), Layout()).batches(4))
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
    assert not np.array_equal(other["image"], want["image"])


@pytest.mark.parametrize(
    "signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_stops(tmp_path, monkeypatch, signum):
    workdir = tmp_path / "run"
    calls = []
    batches = Run.batches

    def interrupting(self, start, mined=None):
        for batch in batches(self, start):
            calls.append(0)
            if len(calls) == 6:
                os.kill(os.getpid(), signum)
            yield batch

    monkeypatch.setattr(Run, "batches", interrupting)
    before = signal.getsignal(signum)
    with pytest.raises(loop.Interrupted, match=f"{signal.Signals(signum).name}; step 6 is saved"):
        loop.train("small", experiment(), workdir, Layout())
    assert signal.getsignal(signum) is before
    assert arrays(workdir)[0] == 6


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    batches = Run.batches

    def poisoned(self, start, mined=None):
        for step, batch in enumerate(batches(self, start), start=start + 1):
            yield {**batch, "image": batch["image"] * np.nan} if step == 11 else batch

    monkeypatch.setattr(Run, "batches", poisoned)
    with pytest.raises(
        loop.Diverged, match=r"Step 11 gave .*loss nan.*step 8 is kept.*learning_rate"
    ):
        loop.train("small", experiment(), workdir, Layout())
    step, found = arrays(workdir)
    assert step == 8 and all(np.isfinite(x).all() for x in found.values())


@pytest.mark.slow
def test_early_stopping_survives_a_relaunch(tmp_path):
    still = experiment(
        optimizer=Optimizer(name="sgd", learning_rate=0.0, momentum=0.0),
        model=UNet(num_classes=11, width=4, depth=2),
        eval_every=2,
        patience=3,
    )
    loop.train("small", still, tmp_path, Layout())
    assert arrays(tmp_path)[0] == 8  # Best at 2, stale at 4, 6 and 8.
    assert loop.train("small", still, tmp_path, Layout())["step"] == 2
    assert arrays(tmp_path)[0] == 8


@pytest.mark.slow
def test_init_from_starts_from_another_run(finished, tmp_path, capsys):
    source, workdir = tmp_path / "source", tmp_path / "run"
    shutil.copytree(finished[0], source)
    config = experiment(init_from=str(source), steps=1, optimizer=Optimizer("sgd", 0.0, ema=0.9))
    loop.train("small", config, workdir, Layout())
    got = arrays(workdir)[1]
    for name, want in _best(source):
        for tree in ("params", "ema"):
            np.testing.assert_array_equal(got[f"{tree}/{name}"], want, err_msg=name)
    assert "Starting from" in capsys.readouterr().out
    source.rename(tmp_path / "moved")
    loop.train("small", config, workdir, Layout())  # Resumed: it starts from itself.
    assert "Starting from" not in capsys.readouterr().out


def _best(workdir):
    import flax

    best = checkpoint.load_variables(workdir)[0]["params"]
    return flax.traverse_util.flatten_dict(best, sep="/").items()
