"""An experiment: every number that decides a run, and the file that keeps it."""

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any, Literal

from flax import linen as nn
from flax.traverse_util import flatten_dict

from zoo.data import Data, Info
from zoo.data.checks import explained, require
from zoo.data.images import File, write_atomically
from zoo.train import fields

FILE = "experiment.json"
# What else a run writes, or replaces.
OURS = ("dataset.json", "environment.json", "metrics.jsonl", "report.html", "figures", "mined")
# What a workdir that is resumed may change: where to stop and how often to look.
FREE = ("steps", "log_every", "eval_every", "checkpoint_every", "data.path")
# What an evaluation must share with the training: what the parameters fit, and mean.
FIXED = ("model", "data.name", "data.size", "data.label", "data.label_offset", "data.num_classes")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The rule that turns gradients into steps, and the learning rate's course."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"]
    learning_rate: float  # The peak, which a warm-up climbs to.
    momentum: float = 0.9  # Of "sgd".
    decay: float = 0.9  # Of the mean square of "rmsprop".
    weight_decay: float = 0.0  # Kernels alone; decoupled in "adamw", an L2 penalty in the others.
    schedule: Literal["constant", "cosine", "exponential", "polynomial"] = "constant"
    warmup_steps: int = 0
    decay_rate: float = 0.5  # "exponential": times this ...
    decay_steps: int = 1000  # ... every so many steps.
    power: float = 0.9  # Of "polynomial".
    clip_norm: float | None = None  # Largest global norm of a gradient.
    ema: float = 0.0  # Decay of the average of parameters; 0 keeps none.
    accumulate: int = 1  # Parts that a batch goes through in, each over all devices.

    def __post_init__(self):
        fields.check_types(self)
        check = functools.partial(require, self, "optimizer.")
        at_least_0 = ("learning_rate", "weight_decay", "warmup_steps", "power")
        check(at_least_0, "at least 0", lambda v: v >= 0)
        check(("decay_steps", "accumulate"), "at least 1", lambda v: v >= 1)
        check(("momentum", "decay", "ema"), "in [0, 1)", lambda v: 0 <= v < 1)
        check(("decay_rate",), "in (0, 1]", lambda v: 0 < v <= 1)
        check(("clip_norm",), "positive or None", lambda v: v is None or v > 0)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run. The same experiment on the same devices gives the same parameters.

    `task` is a dataclass with `bind(info, train)`, see zoo/train/segmentation.py.
    """

    task: Any
    model: nn.Module
    data: Data
    optimizer: Optimizer
    steps: int
    seed: int = 0  # Everything random derives from it.
    split: str = "validation"  # What `evaluate` scores.
    log_every: int = 20
    eval_every: int = 500
    checkpoint_every: int = 500
    init_from: str | None = None  # A workdir whose best parameters it starts from, or weights.
    patience: int | None = None  # Evaluations without a better score before stopping early.
    sync_batch_norm: bool = True  # Statistics of all devices' rows; else of each one's own.

    def __post_init__(self):
        fields.check_types(self)
        if not fields.is_config(self.task):
            raise ValueError(f"Experiment.task: expected a dataclass, got {self.task!r}.")
        at_least_1 = ("steps", "log_every", "eval_every", "checkpoint_every", "patience")
        require(self, "", at_least_1, "at least 1", lambda v: v is None or v >= 1)
        require(self, "", ("seed",), "in 0..2^32 - 1", lambda v: 0 <= v < 2**32)
        require(self, "", ("split",), "the name of a split", bool)
        require(self, "", ("init_from",), "a workdir or a file", lambda v: v is None or v)


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Every field as JSON, models and tasks under their class; ValueError if one cannot be kept."""
    return fields.encode(experiment, "", Experiment)


def from_dict(values: dict[str, Any]) -> Experiment:
    """What `to_dict` was given; ValueError for an unknown class or field, or a wrong type."""
    return fields.decode(values, "", Experiment)


def write_experiment(workdir: File, name: str, experiment: Experiment, info: Info) -> None:
    """Writes experiment.json: `name`, all fields and `info`; ValueError if it cannot be written."""
    values = {"name": name, **to_dict(experiment), "info": dataclasses.asdict(info)}
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    with explained(f"The workdir {workdir} cannot be written", "choose another --workdir", OSError):
        os.makedirs(workdir, exist_ok=True)
        write_atomically(pathlib.Path(workdir) / FILE, lambda file: file.write(text.encode()))


def read_experiment(workdir: File) -> tuple[str, Experiment, Info]:
    """The name, experiment and info of a workdir; ValueError for no or a bad experiment.json."""
    path = pathlib.Path(workdir) / FILE
    if not path.is_file():
        raise ValueError(f"{workdir} is no workdir: it has no {FILE}. Train there first.")
    errors = ValueError, KeyError, TypeError, AttributeError
    with explained(f"{path} cannot be read", "restore it, or train in another folder", errors):
        values = json.loads(path.read_text(encoding="utf-8"))
        name, info = values.pop("name"), Info.from_dict(values.pop("info"))
        return name, from_dict(values), info


def as_trained(experiment: Experiment, info: Info) -> Experiment:
    """The experiment on whatever pictures, normalised as those were that `info` tells of."""
    kept = {name: getattr(experiment.data, name) or getattr(info, name) for name in ("mean", "std")}
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, **kept))


def check_same(workdir: File, name: str, experiment: Experiment, *, evaluating=False) -> None:
    """Refuses a workdir of another experiment: a ValueError that names each field that differs.

    An empty or absent one fits any; one with a file of `OURS` and no experiment none. Where
    `evaluating`, it must hold an experiment; only its name and what the parameters fit must agree.
    """
    if not evaluating and not (pathlib.Path(workdir) / FILE).is_file():
        if found := [file for file in OURS if (pathlib.Path(workdir) / file).exists()]:
            problem = f"{workdir} holds {found[0]} but no {FILE}, so no run of ours"
            raise ValueError(f"{problem}; choose another --workdir.")
        return
    old_name, old, _ = read_experiment(workdir)
    if old_name != name:
        problem = f"{workdir} holds the experiment {old_name!r}, not {name!r}"
        raise ValueError(f"{problem}; choose another --workdir.")
    before, now = (flatten_dict(to_dict(e), sep=".") for e in (old, experiment))
    listed = tuple(f"{field}." for field in (FIXED if evaluating else FREE))
    changed = [
        f"{key} was {before.get(key)!r} and is now {now.get(key)!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key) and f"{key}.".startswith(listed) == evaluating
        # No parameter was fitted to what is for evaluation alone.
        if not (evaluating and key == "model.eval_statistics")
    ]
    if changed:
        free = "" if evaluating else f", change nothing but {', '.join(FREE)}"
        problem = f"{workdir} was trained otherwise: {'; '.join(changed)}"
        raise ValueError(f"{problem}. Set them back{free}, or choose another --workdir.")
