"""Overrides against the values a person would expect of them."""

import dataclasses
import re

import pytest
from flax import linen as nn

from experiments import quickstart, triplet_digits, unet_camvid
from experiments.overrides import apply
from zoo.data.config import Data
from zoo.train import config
from zoo.train.config import Experiment, Optimizer


class Net(nn.Module):
    width: int = 8
    padding: str = "SAME"
    rates: tuple[float, ...] = (0.1,)
    norm: str | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    power: float = 1.0
    balanced: bool = False


BASE = Experiment(
    task=Task(),
    model=Net(),
    data=Data(name="toy", options={"kept": 1}),
    optimizer=Optimizer(name="sgd", learning_rate=0.1),
    steps=10,
)


@pytest.mark.parametrize(
    ("override", "want"),
    [
        ("steps=500", 500),
        ("steps=1_000", 1000),
        ("optimizer.learning_rate=1", 1.0),
        ("optimizer.learning_rate=3e-4", 3e-4),
        ("optimizer.name=rmsprop", "rmsprop"),
        ("optimizer.clip_norm=2", 2.0),
        ("optimizer.clip_norm=None", None),
        ("patience=none", None),
        ("init_from=runs/a=b", "runs/a=b"),
        ("model.width=32", 32),
        ("model.rates=0.5,2", (0.5, 2.0)),
        ("model.rates=(3,)", (3.0,)),
        ("model.norm=batch", "batch"),
        ("task.balanced=True", True),
        ("task.power=0.5", 0.5),
        ("data.path=/a b/c", "/a b/c"),
        ("data.crop=3,4", (3, 4)),
        ("data.crop=(3, 4)", (3, 4)),
        ("data.crop=none", None),
        ("data.mean=0.5", (0.5,)),
        ("data.augment.flip=true", True),
        (" data.label_offset = -1 ", -1),
    ],
)
def test_a_value_is_read_by_its_fields_type(override, want):
    got = apply(BASE, [override])
    path = override.partition("=")[0].strip().split(".")
    value, rest, before = got, config.to_dict(got), config.to_dict(BASE)
    for part in path[:-1]:
        value, rest, before = getattr(value, part), rest[part], before[part]
    value = getattr(value, path[-1])
    assert value == want
    assert type(value) is type(want)
    # Nothing else of its group changed, and the experiment it came from is as it was.
    assert {k: v for k, v in rest.items() if k != path[-1]} == {
        k: v for k, v in before.items() if k != path[-1]
    }
    assert BASE.steps == 10


def test_a_dict_takes_keys_by_name():
    texts = {"validation": "tail", "n": "3", "train": "(0, 14)", "span": "0-14", "on": "true"}
    got = apply(BASE, [f"data.options.{k}={v}" for k, v in texts.items()])
    assert got.data.options == {
        "kept": 1, "validation": "tail", "n": 3, "train": (0, 14), "span": "0-14", "on": True
    }  # fmt: skip
    assert apply(BASE, ["data.options={'a': 1}"]).data.options == {"a": 1}


def test_an_option_needs_not_be_called_one():
    base = apply(quickstart.experiment(), ["data.group=(.*)_a", "task.label_smoothing=0.1"])
    assert base.data.options["group"] == "(.*)_a" and base.task.label_smoothing == 0.1
    camvid = apply(unet_camvid.experiment(), ["data.validation=given"])
    assert camvid.data.options["validation"] == "given"  # Not `validation_split`.
    embedding = apply(triplet_digits.experiment(), ["task.margin=0.5"])
    assert embedding.task.options["margin"] == 0.5


def test_an_option_of_a_data_set_that_is_a_string_stays_one():
    """By the data set that is then taken; numbers stay numbers."""
    folder = ["data.name=image_folder_masks", "data.group=2023", "data.split_seed=7"]
    options = apply(quickstart.experiment(), folder).data.options
    assert options["group"] == "2023" and options["split_seed"] == 7
    digits = apply(triplet_digits.experiment(), ["data.options.held_out=3,7"])
    assert digits.data.options["held_out"] == "3,7"


def test_the_last_of_two_wins_and_a_model_stays_usable():
    got = apply(BASE, ["model.width=1", "steps=5", "model.width=2", "model.padding=VALID"])
    assert got.model == Net(width=2, padding="VALID")
    assert got.steps == 5
    assert apply(BASE, []) == BASE


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "--set takes FIELD=VALUE, such as steps=500; got 'steps'"),
        ("=3", "--set takes FIELD=VALUE"),
        ("step=3", "step: no such field; did you mean steps?"),
        ("model.widht=3", "model.widht: no such field; did you mean model.width?"),
        ("learning_rate=3", "did you mean optimizer.learning_rate?"),
        ("optimiser.name=sgd", "optimiser.name: no such field; did you mean optimizer.name?"),
        ("model.qqqq=3", "there are model.width, model.padding, model.rates, model.norm."),
        ("steps=abc", "steps: expected int, got 'abc'."),
        ("steps=1.5", "steps: expected int, got '1.5'."),
        ("steps=0", "steps must be at least 1; got 0."),
        ("seed=none", "seed: expected int, got 'none'."),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate: expected float, got 'fast'."),
        ("optimizer.learning_rate=nan", "expected float, got 'nan'."),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate must be at least 0"),
        ("optimizer.clip_norm=x", "expected float or none, got 'x'."),
        ("optimizer.name=addam", "expected one of sgd, adam, adamw, rmsprop, got 'addam'"),
        ("data.crop=3", "data.crop: expected (int, int) or none, got '3'."),
        ("data.crop=3,x", "data.crop: expected (int, int) or none, got '3,x'."),
        ("data.augment.flip=maybe", "data.augment.flip: expected bool, got 'maybe'."),
        ("data.options=3", "data.options: expected"),
        ("data.options={[1]: 2}", "data.options: expected"),
        (f"optimizer.learning_rate=1{400 * '0'}", "optimizer.learning_rate: expected float"),
        ("data.options.a.b=3", "a dict inside a dict cannot be set by name"),
        ("model=UNet", "model is a group of fields; set one of them, such as model.width."),
        ("model.parent=none", "Linen owns the field 'parent'"),
        ("model.name=x", "Linen owns the field 'name'"),
        ("steps.x=3", "steps.x: steps is a int and has no fields."),
    ],
)
def test_bad_overrides_name_culprit_value_and_way_out(override, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        apply(BASE, [override])
