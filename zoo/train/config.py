"""An experiment: every number that decides a run, and the file that keeps it."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

from flax import linen as nn

from zoo.data.config import Data
from zoo.data.info import Info
from zoo.train import fields

FILE = "experiment.json"
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
    accumulate: int = 1  # Parts a device's batch goes through in.

    def __post_init__(self):
        fields.check_types(self)
        _at_least(self, 0, "learning_rate", "weight_decay", "warmup_steps", "power")
        _at_least(self, 1, "decay_steps", "accumulate")
        for name in ("momentum", "decay", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise _wrong(self, name, "in [0, 1)")
        if not 0 < self.decay_rate <= 1:
            raise _wrong(self, "decay_rate", "in (0, 1]")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise _wrong(self, "clip_norm", "positive, or None for no clipping")


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
    init_from: str | None = None  # A workdir whose best parameters this run starts from.
    patience: int | None = None  # Evaluations without a better score before stopping early.

    def __post_init__(self):
        fields.check_types(self)
        if not fields.is_config(self.task):
            raise ValueError(f"Experiment.task: expected a dataclass, got {self.task!r}.")
        _at_least(self, 1, "steps", "log_every", "eval_every", "checkpoint_every")
        if self.patience is not None:
            _at_least(self, 1, "patience")
        if not 0 <= self.seed < 2**32:
            raise _wrong(self, "seed", "in 0..2^32 - 1")
        if not self.split:
            raise _wrong(self, "split", "the name of a split")


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Every field as JSON holds it, models and tasks under their class.

    Raises:
        ValueError: a field that could not be read back exactly.
    """
    return fields.encode(experiment, "", Experiment)


def from_dict(values: dict[str, Any]) -> Experiment:
    """The experiment that `to_dict` was given.

    Classes are imported by the names in `values`; nothing but Linen modules and dataclasses
    is called.

    Raises:
        ValueError: an unknown class or field, or a wrong type.
    """
    return fields.decode(values, "", Experiment)


def write_experiment(
    workdir: str | os.PathLike, name: str, experiment: Experiment, info: Info
) -> None:
    """Writes experiment.json: `name`, all fields, and `info`, what the data's ids mean.

    Raises:
        ValueError: the workdir cannot be written.
    """
    workdir = pathlib.Path(workdir)
    values = {"name": name, **to_dict(experiment), "info": dataclasses.asdict(info)}
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    # Written whole or not at all: a kill leaves no half file.
    partial = workdir / (FILE + ".partial")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(workdir / FILE)
    except OSError as error:
        raise ValueError(
            f"The workdir {workdir} cannot be written ({error.strerror}); choose another --workdir."
        ) from error


def read_experiment(workdir: str | os.PathLike) -> tuple[str, Experiment, Info]:
    """The name, the experiment and the data's info of a workdir.

    Raises:
        ValueError: no experiment.json, or one that is damaged or of another version.
    """
    path = pathlib.Path(workdir) / FILE
    if not path.is_file():
        raise ValueError(f"{workdir} is no workdir: it has no {FILE}. Train there first.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        name, info = values.pop("name"), Info.from_dict(values.pop("info"))
        return name, from_dict(values), info
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def check_same(
    workdir: str | os.PathLike, name: str, experiment: Experiment, *, evaluating: bool = False
) -> None:
    """Refuses a workdir that holds another experiment. An empty or absent one fits any.

    Args:
        evaluating: only the experiment's name and what the parameters fit must agree, and the
            workdir must hold an experiment.

    Raises:
        ValueError: naming each field that differs.
    """
    if not evaluating and not (pathlib.Path(workdir) / FILE).is_file():
        return
    old_name, old, _ = read_experiment(workdir)
    if old_name != name:
        raise ValueError(
            f"{workdir} holds the experiment {old_name!r}, not {name!r}; choose another --workdir."
        )
    before, now = dict(_flat(to_dict(old))), dict(_flat(to_dict(experiment)))
    changed = []
    for key in {**before, **now}:
        compared = _under(key, FIXED) if evaluating else not _under(key, FREE)
        if compared and before.get(key) != now.get(key):
            changed.append(f"{key} was {before.get(key)!r} and is now {now.get(key)!r}")
    if changed:
        free = "" if evaluating else f", change nothing but {', '.join(FREE)}"
        raise ValueError(
            f"{workdir} was trained otherwise: {'; '.join(changed)}. "
            f"Set them back{free}, or choose another --workdir."
        )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _under(key: str, roots: tuple[str, ...]) -> bool:
    return any(key == root or key.startswith(root + ".") for root in roots)


def _at_least(config: Any, low: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < low:
            raise _wrong(config, name, f"at least {low}")


def _wrong(config: Any, name: str, wanted: str) -> ValueError:
    owner = "" if isinstance(config, Experiment) else f"{type(config).__name__.lower()}."
    return ValueError(f"{owner}{name} must be {wanted}; got {getattr(config, name)!r}.")
