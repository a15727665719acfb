"""Plans do not depend on who draws them, and those who do end with the run."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from experiments import resident
from experiments.datasets import DigitScenes
from experiments.planner import Planner, ahead, workers
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.data.images import Preprocess
from zoo.models import UNet
from zoo.train.config import Experiment, Optimizer
from zoo.train.parallel import Layout
from zoo.train.segmentation import Segmentation

EVERYTHING = Augment(True, True, True, (0.6, 1.7), 20.0, 0.2, 0.1, 3.0, 0.2, 0.3, 0.4, 0.1)


def planner(**fields) -> Planner:
    """Seven pictures of two sizes; an epoch is no whole number of batches."""
    places = [(0, (30, 40)), *((1200 + 900 * i, (30, 30)) for i in range(6))]
    data = Data(name="", batch_size=4, crop=(16, 20), augment=EVERYTHING)
    return Planner(places, data, Preprocess(3, (0.5,) * 3, (0.25,) * 3), seed=3, **fields)


def same(got, want):
    assert got.keys() == want.keys()
    for key, array in want.items():
        assert got[key].dtype == array.dtype
        np.testing.assert_array_equal(got[key], array, err_msg=key)


def test_a_span_is_its_steps_and_a_batch_the_parts_of_the_processes():
    want = planner()((5, 8, 4))
    assert want["weight"].tolist() == [[1, 1, 1, 0]] * 4
    for step in (5, 6, 7):
        one = planner()((step, step + 1, 1))
        same(one, {key: array[:, [step - 5]] for key, array in want.items()})
    for i in (0, 1):
        part = planner(where={"process_index": i, "process_count": 2})((5, 8, 4))
        same(part, {key: array[i::2] for key, array in want.items()})


def test_processes_plan_the_same_bits_and_tell_what_went_wrong():
    with ahead(planner(), 2) as plan:
        for span in ((0, 3, 3), (5, 8, 4)):
            same(plan(span), planner()(span))
        with pytest.raises(IndexError, match="out of bounds") as caught:
            plan((0, 2, 1))
        assert 'planner.py", line' in str(caught.value.__cause__)
        children = multiprocessing.active_children()
        assert children
        # What the terminal sends to all of a launch does not reach them.
        assert all(os.getpgid(child.pid) == child.pid for child in children)
        os.kill(children[0].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="has ended .* launch the same command again"):
            for _ in range(100):
                plan((0, 1, 1))
    assert not multiprocessing.active_children()


def test_a_run_is_planned_ahead_from_any_step_and_leaves_no_process(monkeypatch):
    monkeypatch.setitem(resident.LONGEST, "cpu", 64)
    monkeypatch.setattr(resident, "workers", lambda platform: 1)
    options = {"train_scenes": 7, "validation_scenes": 1, "test_scenes": 1}
    experiment = Experiment(
        task=Segmentation(),
        model=UNet(num_classes=11, width=2, depth=1),
        data=Data(name=DigitScenes.name, options=options, augment=EVERYTHING),
        optimizer=Optimizer(name="sgd", learning_rate=0.1),
        steps=9,
        log_every=4,
    )
    run = resident.Resident(experiment, Layout())
    run._many = lambda state, plans, pixels: (state, plans)

    def stopped():
        seen = []
        for end, advance in run.chunks(3):
            seen.append(end)
            span = ([3, *seen][-2], end, 4)
            same(advance(None)[1], run.planner(span))
            if end == 8:
                assert seen == [4, 8] and multiprocessing.active_children()
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_processes_end_with_one_that_is_killed():
    source = """
        import os, signal
        from experiments.planner import *

        if __name__ == "__main__":
            data = Data(name="")
            planner = Planner([(0, (8, 8))], data, Preprocess(1, (0.5,), (0.5,)), 0)
            with ahead(planner, 1) as plan:
                plan((0, 1, 1))
                print("planned", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(source)]
    # It returns when nobody has this pipe any more.
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=60)
    assert ended.returncode == -signal.SIGKILL and ended.stdout == b"planned\n"


def test_a_cpu_plans_in_its_own_process(monkeypatch):
    assert workers("cpu") == 0
    for cores, want in ((1, 0), (2, 0), (3, 1), (16, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=cores: set(range(n)))
        assert workers("gpu") == want
