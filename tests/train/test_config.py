"""Experiments against JSON: what is written is what is read, and what differs is named."""

import dataclasses
import json
import re

import pytest
from flax import linen as nn

from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.data.info import Info
from zoo.train import config
from zoo.train.config import Experiment, Optimizer


class Net(nn.Module):
    width: int = 8
    rates: tuple[float, ...] = (0.1, 1 / 3)
    axis_name: str | None = None
    head: nn.Module | None = None


class Averaged(Net):
    eval_statistics: str = "running"


@dataclasses.dataclass(frozen=True)
class Task:
    smoothing: float = 0.0


INFO = Info("toy", 2, ("a", "b"), ((0, 0, 0), (9, 8, 7)), 255, 3, (0.5,) * 3, (0.25,) * 3)


def experiment(**changes) -> Experiment:
    values = {
        "task": Task(),
        "model": Net(),
        "data": Data(name="toy"),
        "optimizer": Optimizer(name="sgd", learning_rate=0.1),
        "steps": 10,
    }
    return Experiment(**{**values, **changes})


def through_json(value: Experiment) -> Experiment:
    return config.from_dict(json.loads(json.dumps(config.to_dict(value))))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": Net(width=3, rates=(), head=Net(width=4)), "init_from": "a b", "patience": 2},
        {"data": Data(name="toy", crop=(5, 7), options={"train": (0, 1), "tail": None, "x": True})},
        {"data": Data(name="toy", augment=Augment(flip=True, scale=(0.5, 2.0)))},
        {"optimizer": Optimizer(name="adamw", learning_rate=0.1 + 0.2, clip_norm=1e-300)},
        {"task": Task(smoothing=1e-7), "seed": 2**32 - 1},
    ],
)
def test_json_gives_back_the_same_experiment(changes):
    want = experiment(**changes)
    got = through_json(want)
    assert got == want
    assert repr(got) == repr(want)  # Types too: 1 == 1.0 and (1,) prints unlike [1].


def test_every_field_is_written_and_linens_own_are_not():
    values = config.to_dict(experiment())
    assert set(values) == {f.name for f in dataclasses.fields(Experiment)}
    assert set(values["optimizer"]) == {f.name for f in dataclasses.fields(Optimizer)}
    assert set(values["model"]) == {"class", "width", "rates", "axis_name", "head"}


def test_what_json_cannot_give_back_is_refused_by_name():
    for bad in (lambda x: x, [1], {1: 2}, {"a": float("nan")}):
        with pytest.raises(ValueError, match=r"data\.options\.x.* cannot be kept in JSON"):
            config.to_dict(experiment(data=Data(name="toy", options={"x": bad})))

    class Local(nn.Module):
        pass

    with pytest.raises(ValueError, match="model: .*Local is defined inside a function"):
        config.to_dict(experiment(model=Local()))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(stepz=1), "stepz: no such field .nearest: steps"),
        (lambda v: v.pop("steps"), "steps: missing; expected int"),
        (lambda v: v.update(steps="3"), "steps: expected int, got '3'"),
        (lambda v: v.update(steps=True), "steps: expected int, got True"),
        (
            lambda v: v["optimizer"].update(name="adm"),
            "expected one of sgd, .*nearest: adam",
        ),
        (lambda v: v["data"].update(crop=[3]), r"data.crop: expected \(int, int\) or none"),
        (lambda v: v["model"].update(parent=None), "model.parent: no such field"),
        (lambda v: v["model"].update({"class": "zoo.models.nope.Net"}), "cannot be imported"),
        (lambda v: v["model"].update({"class": "os.system"}), "neither a Linen module nor a data"),
        (lambda v: v["model"].update({"class": "Net"}), "'Net' cannot be imported"),
    ],
)
def test_a_faulty_file_is_refused_by_name(edit, message):
    values = config.to_dict(experiment())
    edit(values)
    with pytest.raises(ValueError, match=message):
        config.from_dict(values)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "steps must be at least 1; got 0"),
        ("steps", 1.5, "Experiment.steps: expected int, got 1.5"),
        ("log_every", 0, "log_every must be at least 1"),
        ("patience", 0, "patience must be at least 1"),
        ("seed", -1, "seed must be in"),
        ("split", "", "split must be the name of a split"),
        ("model", Net, "Experiment.model: expected Module"),
        ("task", "segment", "Experiment.task: expected a dataclass"),
    ],
)
def test_an_experiment_without_sense_is_refused(field, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        experiment(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "adamm", "nearest: adam or adamw"),
        ("schedule", "cosin", "expected one of constant, cosine"),
        ("learning_rate", -0.1, "optimizer.learning_rate must be at least 0; got -0.1"),
        ("learning_rate", float("nan"), "Optimizer.learning_rate: expected float, got nan"),
        ("momentum", 1.0, "optimizer.momentum must be in [0, 1)"),
        ("ema", 1, "optimizer.ema must be in [0, 1)"),
        ("clip_norm", 0.0, "optimizer.clip_norm must be positive"),
        ("accumulate", 0, "optimizer.accumulate must be at least 1"),
        ("decay_rate", 0.0, "optimizer.decay_rate must be in (0, 1]"),
    ],
)
def test_an_optimizer_without_sense_is_refused(field, value, message):
    values = {"name": "sgd", "learning_rate": 0.1, field: value}
    with pytest.raises(ValueError, match=re.escape(message)):
        Optimizer(**values)


def test_a_workdir_keeps_name_experiment_and_info(tmp_path):
    want = experiment(model=Net(width=5))
    config.write_experiment(tmp_path / "new", "mine", want, INFO)
    assert config.read_experiment(tmp_path / "new") == ("mine", want, INFO)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["experiment.json"]


def test_a_workdir_without_or_with_half_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no workdir"):
        config.read_experiment(tmp_path)
    for text in ("", "{", "[]", '{"name": "x"}', '{"name": "x", "info": {}}', "\xff"):
        (tmp_path / "experiment.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"experiment\.json cannot be read"):
            config.read_experiment(tmp_path)


def test_resuming_may_change_only_what_the_design_lists(tmp_path):
    old = experiment()
    config.check_same(tmp_path / "absent", "mine", old)
    config.write_experiment(tmp_path, "mine", old, INFO)
    config.check_same(tmp_path, "mine", old)
    free = experiment(
        steps=99, log_every=1, eval_every=2, checkpoint_every=3, data=Data(name="toy", path="x")
    )
    config.check_same(tmp_path, "mine", free)
    other = experiment(seed=1, model=Net(width=9), data=Data(name="toy", batch_size=3))
    with pytest.raises(ValueError) as error:
        config.check_same(tmp_path, "mine", other)
    for words in ("seed was 0 and is now 1", "model.width was 8", "data.batch_size was"):
        assert words in str(error.value)
    with pytest.raises(ValueError, match="holds the experiment 'mine', not 'yours'"):
        config.check_same(tmp_path, "yours", old)


@pytest.mark.parametrize(
    "file", ["dataset.json", "environment.json", "metrics.jsonl", "report.html"]
)
def test_a_folder_whose_files_a_run_would_replace_is_no_workdir(tmp_path, file):
    (tmp_path / "anything.txt").touch()
    config.check_same(tmp_path, "mine", experiment())
    (tmp_path / file).touch()
    with pytest.raises(ValueError, match=f"holds {file} but no experiment.json.*--workdir"):
        config.check_same(tmp_path, "mine", experiment())


def test_evaluating_needs_only_what_the_parameters_fit(tmp_path):
    config.write_experiment(tmp_path, "mine", experiment(), INFO)
    other = experiment(seed=1, split="test", optimizer=Optimizer(name="adam", learning_rate=1.0))
    config.check_same(tmp_path, "mine", other, evaluating=True)
    with pytest.raises(ValueError, match="model.width was 8 and is now 9"):
        config.check_same(tmp_path, "mine", experiment(model=Net(width=9)), evaluating=True)
    with pytest.raises(ValueError, match="is no workdir"):
        config.check_same(tmp_path / "absent", "mine", other, evaluating=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("size", (3, 4)),
        ("label", "mask"),
        ("label_offset", -1),
        ("num_classes", 5),
    ],
)
def test_evaluating_on_what_means_another_thing_is_refused(tmp_path, field, value):
    config.write_experiment(tmp_path, "mine", experiment(), INFO)
    other = experiment(data=Data(**{"name": "toy", field: value}))
    with pytest.raises(ValueError, match=rf"data\.{field} was .* and is now "):
        config.check_same(tmp_path, "mine", other, evaluating=True)


def test_statistics_of_evaluation_may_change_when_evaluating_alone(tmp_path):
    config.write_experiment(tmp_path, "mine", experiment(model=Averaged()), INFO)
    other = experiment(model=Averaged(eval_statistics="batch"))
    config.check_same(tmp_path, "mine", other, evaluating=True)
    with pytest.raises(ValueError, match="model.eval_statistics was 'running' and is now 'batch'"):
        config.check_same(tmp_path, "mine", other)
    wider = experiment(model=Averaged(eval_statistics="batch", width=9))
    with pytest.raises(ValueError, match="otherwise: model.width was 8 and is now 9. Set"):
        config.check_same(tmp_path, "mine", wider, evaluating=True)
