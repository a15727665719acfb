"""What the loop refuses, and that nothing of the workdir is lost by it."""

import dataclasses
import importlib.util
import json
import pathlib
import re

import pytest

from experiments.datasets import Digits8x8
from zoo.data.config import Data
from zoo.models import FCN32s, SiameseEncoder, UNet
from zoo.train import checkpoint, loop
from zoo.train.config import Optimizer
from zoo.train.embedding import Embedding
from zoo.train.parallel import Layout

spec = importlib.util.spec_from_file_location(
    "test_loop", pathlib.Path(__file__).with_name("test_loop.py")
)
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
experiment = shared.experiment


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_bad_input_leaves_the_workdir_untouched(tmp_path):
    workdir = tmp_path / "run"
    for wrong in (
        dataclasses.replace(experiment(), split="tests"),
        experiment(model=UNet(num_classes=7, width=4, depth=2)),
        experiment(data=dataclasses.replace(experiment().data, batch_size=9)),
        experiment(init_from=str(tmp_path / "none")),
        experiment(init_from=str(tmp_path / "none.pth")),
        experiment(init_from=str(tmp_path / "none.pth"), model=FCN32s(num_classes=11, width=1)),
    ):
        with pytest.raises(ValueError):
            loop.train("small", wrong, workdir, Layout())
        assert not workdir.exists()


@pytest.mark.parametrize(
    ("loss", "options", "words"),
    [
        ("batch_hard_triplet", {"margin": -1.0}, "margin must be >= 0 and finite; got -1.0"),
        ("batch_hard_triplet", {"margin": "a"}, "The loss cannot be computed .*mend .*task"),
        ("supervised_contrastive", {"temperature": 0.0}, "temperature must be > 0; got 0.0"),
    ],
)
def test_a_loss_that_takes_no_such_option_is_met_before_the_workdir(tmp_path, loss, options, words):
    wrong = experiment(
        task=Embedding(loss=loss, options=options),
        model=SiameseEncoder(features=3, width=2),
        data=Data(name=Digits8x8.name, batch_size=8),
        steps=1,
    )
    with pytest.raises(ValueError, match=words):
        loop.train("small", wrong, tmp_path / "run", Layout())
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_scored_is_not_trained(tmp_path):
    """A VALID U-Net whose crops fit and whose pictures do not: 64 px are no legal side."""
    model = UNet(num_classes=11, width=2, depth=3, padding="VALID")
    wrong = experiment(model=model, data=dataclasses.replace(experiment().data, crop=(92, 92)))
    with pytest.raises(
        ValueError, match=r"'validation' cannot be scored .*smallest legal size is 92.*data\.size"
    ):
        loop.train("small", wrong, tmp_path / "run", Layout())
    assert not (tmp_path / "run").exists()


def test_evaluate_sees_pictures_as_training_did_and_refuses_other_classes(tmp_path):
    """`data.path` may name another folder, with a mean and classes of its own."""
    small = experiment(model=UNet(num_classes=11, width=2, depth=1), steps=1)
    own = loop.train("small", small, tmp_path, Layout())["loss"]
    file = tmp_path / "experiment.json"
    said = json.loads(file.read_text())
    said["info"]["mean"] = [0.9, 0.1, 0.5]
    file.write_text(json.dumps(said))
    by_hand = dataclasses.replace(small.data, mean=(0.9, 0.1, 0.5))
    got = loop.evaluate(small, tmp_path, Layout())["loss"]
    assert got != own
    want = loop.evaluate(dataclasses.replace(small, data=by_hand), tmp_path, Layout())["loss"]
    assert got == want
    said["info"]["class_names"][2:4] = "three", "two"
    file.write_text(json.dumps(said))
    with pytest.raises(
        ValueError, match=r"trained on the classes .*three, two.*another data\.path"
    ):
        loop.evaluate(small, tmp_path, Layout())


def test_fewer_steps_than_were_trained_are_refused(tmp_path):
    """Or the longer run's score would stand for the shorter one's."""
    small = experiment(model=UNet(num_classes=11, width=2, depth=1), steps=2)
    loop.train("small", small, tmp_path, Layout())
    before = content(tmp_path)
    with pytest.raises(ValueError, match="was trained to step 2 already, not to 1; set steps=2"):
        loop.train("small", dataclasses.replace(small, steps=1), tmp_path, Layout())
    assert content(tmp_path) == before


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path, monkeypatch):
    small = experiment(model=UNet(num_classes=11, width=2, depth=1), steps=1)
    loop.train("small", small, tmp_path, Layout())
    file = tmp_path / "experiment.json"
    file.write_text(re.sub(r'"width": 2', '"width": 3', file.read_text()))
    before = content(tmp_path)
    wider = dataclasses.replace(small, model=UNet(num_classes=11, width=3, depth=1), steps=2)
    with pytest.raises(ValueError, match="does not fit the model"):
        loop.train("small", wider, tmp_path, Layout())
    assert content(tmp_path) == before


def test_a_file_in_the_way_of_checkpoints_is_one_line(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    (tmp_path / "anything.txt").write_text("mine")
    before = content(tmp_path)
    words = r"The checkpoints in .*checkpoints cannot be written .*another --workdir"
    with pytest.raises(ValueError, match=words):
        loop.train("small", experiment(), tmp_path, Layout())
    assert content(tmp_path) == before


def test_parameters_that_overflow_are_never_saved(tmp_path):
    """The loss of a step is that of the parameters before it; the save is of those after it."""
    wild = experiment(
        model=UNet(num_classes=11, width=2, depth=1),
        optimizer=Optimizer(name="rmsprop", learning_rate=3e38),
        checkpoint_every=1,
    )
    with pytest.raises(loop.Diverged, match="Step 1 left parameters that are nan or infinite"):
        loop.train("small", wild, tmp_path, Layout())
    with pytest.raises(ValueError, match="holds no checkpoints"):
        checkpoint.load_variables(tmp_path)
