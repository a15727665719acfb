"""Batches made on the device are the host's; a run with them takes the host's steps."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import launch
from experiments.datasets import Digits8x8, DigitScenes
from experiments.resident import LONGEST, Resident, batch_maker, hold
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.data.images import Preprocess
from zoo.models import SiameseEncoder, UNet
from zoo.train import loop
from zoo.train.checkpoint import Checkpoints
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding
from zoo.train.parallel import Layout, to_host
from zoo.train.run import Run
from zoo.train.segmentation import Segmentation

COLOURS = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.4, "gain": 0.1}
CHANGES = {
    "none": Augment(),
    "flip": Augment(flip=True),
    "flip_vertical": Augment(flip_vertical=True),
    "turns": Augment(turns=True),
    "colours": Augment(**COLOURS),
    "scale": Augment(scale=(0.6, 1.7)),
    "affine": Augment(rotate=20.0, shear=0.2, shift=0.1),
    "elastic": Augment(elastic_sigma=3.0),
    "all": Augment(True, True, True, (0.6, 1.7), 20.0, 0.2, 0.1, 3.0, **COLOURS),
}
WARPS = ("scale", "affine", "elastic", "all")


def experiment(**fields) -> Experiment:
    """Batch norm, EMA and dropout; an epoch is 2.5 steps."""
    names = {field.name for field in dataclasses.fields(Data)}
    data = {name: fields.pop(name) for name in list(fields) if name in names}
    data = {
        "name": DigitScenes.name,
        "batch_size": 8,
        "crop": (32, 48),
        "options": {"train_scenes": 20, "validation_scenes": 4, "test_scenes": 4},
        "augment": Augment(flip=True, turns=True, brightness=0.1, contrast=0.2),
        **data,
    }
    return Experiment(
        **{
            "task": Segmentation(),
            "model": UNet(num_classes=11, width=2, depth=1, norm="batch", dropout_rate=0.5),
            "data": Data(**data),
            "optimizer": Optimizer(name="sgd", learning_rate=0.1, ema=0.9),
            "steps": 9,
            "log_every": 3,
            "eval_every": 6,
            "checkpoint_every": 6,
            **fields,
        }
    )


def two() -> Layout:
    return Layout(devices=jax.devices()[:2])


def trained(make_run, layout=None, *, state=None, steps=9, **fields):
    """The state after `steps`, on the host, without a workdir; from the start or from `state`."""
    run = make_run(experiment(**fields), layout or two())
    state = run.initial_state() if state is None else state
    step = int(state.step)
    state, chunks = run.layout.put(state), run.chunks(step)
    while step < steps:
        step, advance = next(chunks)
        state, _ = advance(state)
    assert step == steps
    return to_host(state)


def same(got, want, tolerance=0.0):
    """All numbers of a kind (parameters, statistics, ...) to `tolerance` of the largest of them.

    Not of the largest of an array: the biases before batch norm have no gradient, and are the
    rounding of zero.
    """
    for field in dataclasses.fields(want):
        leaves = [jax.tree.leaves(getattr(state, field.name)) for state in (got, want)]
        scale = max((np.abs(leaf).max() for leaf in leaves[1]), default=0)
        for g, w in zip(*leaves, strict=True):
            apart = np.abs(np.subtract(g, w, dtype=np.float64)).max()
            assert apart <= tolerance * scale, (field.name, apart, scale)


@pytest.mark.parametrize("name", CHANGES)
def test_a_batch_is_the_hosts(name):
    """Of the second epoch too; cut, and laid on a larger window, and of resized pictures."""
    for crop, size in (((32, 48), None), ((70, 120), (60, 50))):
        run = Resident(experiment(augment=CHANGES[name], crop=crop, size=size), two())
        data, preprocess = run.experiment.data, run.preprocess
        pixels = hold(run.train_source, data, preprocess)[1]
        assert pixels["image"].dtype == (np.uint8 if size is None else np.float32)
        make = jax.jit(batch_maker(data, preprocess, run.info.ignore_label))
        for n in (0, 4):
            plan = {key: array[:, 0] for key, array in run.planner((n, n + 1, 1)).items()}
            want, got = run.train_items()[n], make(pixels, plan)
            assert want.keys() == got.keys()
            for key, array in want.items():
                assert got[key].dtype == array.dtype and got[key].shape == array.shape
            apart = np.abs(got["image"] - want["image"]).max()
            assert apart <= 1e-5 * np.abs(want["image"]).max()
            # Where a place is half-way between two pixels, rounding decides.
            assert (got["label"] != want["label"]).mean() <= (1e-3 if name in WARPS else 0)
            np.testing.assert_array_equal(got["weight"], want["weight"])


@pytest.fixture(scope="module", autouse=True)
def loops():
    """Many steps in one dispatch, as on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LONGEST, "cpu", 64)
        yield


@pytest.fixture(scope="module")
def reference():
    return trained(Resident)


def test_a_run_takes_the_steps_of_the_host(reference):
    same(trained(Run), reference, 1e-5)


@pytest.mark.slow
def test_a_run_cut_anywhere_and_told_otherwise_ends_in_the_same_bits(reference):
    state = trained(Resident, steps=4, log_every=1)
    # One by one; and on, 2, 1 and 2 at a time.
    same(trained(Resident, state=state, log_every=100, eval_every=7), reference)


@pytest.mark.slow
def test_a_cpu_takes_the_same_steps_one_by_one(reference, monkeypatch):
    monkeypatch.setitem(LONGEST, "cpu", 1)
    assert next(Resident(experiment(), two()).chunks(0))[0] == 1
    same(trained(Resident), reference, 1e-5)


@pytest.mark.slow
def test_chunks_of_any_length_give_the_same_bits(reference):
    for every in (1, 2, 9):
        same(trained(Resident, log_every=every, eval_every=9, checkpoint_every=9), reference)


@pytest.mark.slow
def test_one_device_and_eight_by_either_dispatcher():
    plain = {"model": UNet(num_classes=11, width=2, depth=1, norm="batch", dropout_rate=0.0)}
    want = trained(Run, Layout(devices=jax.devices()[:1]), **plain)
    same(trained(Resident, Layout(devices=jax.devices()[:1]), **plain), want, 1e-5)
    for how in ("jit", "pmap"):
        same(trained(Resident, Layout(how), **plain), want, 1e-5)


def lines(workdir):
    found = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if k != "images_per_second"} for x in found]


def arrays(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    found = checkpoints.read(max(checkpoints.steps()))[0]
    checkpoints.close()
    return found


@pytest.mark.slow
def test_the_loop_logs_and_resumes_as_on_the_host(tmp_path):
    layout, seen = two(), []
    hooks = {"watch": lambda count, state: seen.append(count), "make_run": Resident}
    loop.train("small", experiment(), tmp_path / "whole", layout, **hooks)
    assert seen == [3, 6, 9]
    loop.train("small", experiment(), tmp_path / "host", layout)
    for got, want in zip(lines(tmp_path / "whole"), lines(tmp_path / "host"), strict=True):
        assert got.keys() == want.keys() and got["step"] == want["step"]
        np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-4)

    def stop(count, state):
        if count == 6:
            raise KeyboardInterrupt  # As a kill: nothing is saved for it.

    hooks = {"make_run": Resident}
    with pytest.raises(KeyboardInterrupt):
        early = experiment(checkpoint_every=3)
        loop.train("small", early, tmp_path / "cut", layout, watch=stop, **hooks)
    loop.train("small", experiment(), tmp_path / "cut", layout, **hooks)
    got, want = arrays(tmp_path / "cut"), arrays(tmp_path / "whole")
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_the_step_that_diverged_is_named():
    chunks = [(2, {"loss": np.array([1.0, 2.0, 0.0])}), (3, {"loss": np.array([1, np.nan, 2.0])})]

    class Saved:
        wait = steps = lambda self: []

    with pytest.raises(loop.Diverged, match="Step 9 gave loss nan"):
        loop._finite(chunks, 10, Saved())
    assert loop._finite(chunks[:1], 7, Saved()) == {"loss": 2.0}


EMBEDDING = {
    "task": Embedding(loss="batch_hard_triplet", options={"margin": 0.5}),
    "model": SiameseEncoder(features=4, width=2),
    "name": Digits8x8.name,
    "options": {},
    "crop": None,
    "batch_size": 16,
}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cache_mib": 0}, "data.cache_mib=0 MiB.*leave out --on-device"),
        ({"border_weight": 2.0}, "data.border_weight=2.0.*leave out --on-device"),
        (EMBEDDING, "Embedding makes training batches of its own.*leave out --on-device"),
    ],
)
def test_refuses_what_a_device_cannot(fields, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        loop.train("small", experiment(**fields), tmp_path / "run", two(), make_run=Resident)
    assert not (tmp_path / "run").exists()


def test_refuses_a_shared_state():
    with pytest.raises(ValueError, match="fsdp.*take jit, or leave out --on-device"):
        Resident(experiment(), Layout("fsdp"))


def test_refuses_pictures_of_several_sizes_unless_cropped():
    blank = [(f"{h}.png", np.zeros((h, 8, 3), np.uint8)) for h in (8, 9)]
    source = [{"image": x, "label": x[..., 0], "name": name} for name, x in blank]
    preprocess = Preprocess(3, (0.5,) * 3, (0.25,) * 3)
    with pytest.raises(ValueError, match=r"9.png is \(9, 8\) .* \(8, 8\) .*set data.crop"):
        hold(source, experiment(crop=None).data, preprocess)
    found, pixels = hold(source, experiment().data, preprocess)
    assert found == [(0, (8, 8)), (64, (9, 8))] and pixels["label"].shape == (136,)


def test_the_launcher_takes_it_and_refuses_a_trace(monkeypatch, tmp_path, capsys):
    seen = {}
    monkeypatch.setattr(loop, "train", lambda *given, **hooks: seen.update(hooks))
    command = ["quickstart", "--workdir", str(tmp_path / "run"), "--on-device"]
    assert launch.main(command) == 0
    assert seen["make_run"] is Resident
    for more in (["--profile"], ["--sweep=seed=0,1"]):
        assert launch.main([*command, *more]) == 2
        assert "error: --on-device takes many steps at once" in capsys.readouterr().err
