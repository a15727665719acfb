"""`--set model.width=32`: new values for the fields of an experiment, read by their types."""

import ast
import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from flax import linen as nn
from flax.traverse_util import flatten_dict

from zoo.train import config, fields
from zoo.train.config import Experiment

WORDS = {"true": True, "false": False, "none": None}


def apply(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment with some fields changed; a later override of one field wins.

    Each is "FIELD=VALUE", FIELD a dotted name. By the field's type VALUE is a number, a string,
    true or false, none, or a tuple ("3,4" or "(3, 4)"); a key of a dict is set by its name, as in
    data.options.validation=tail, or data.validation=tail where no field is called like it, and
    takes a string where the default of one of our data sets is one. Raises ValueError for no "=",
    an unknown field (with the nearest), a wrong type (with the expected), a value that makes no
    sense.
    """
    values = config.to_dict(experiment)
    known = [name for name in flatten_dict(values, sep=".") if not name.endswith(".class")]
    for override in overrides:
        name, equals, text = (part.strip() for part in override.partition("="))
        if not equals or not name:
            raise ValueError(f"--set takes FIELD=VALUE, such as steps=500; got {override!r}.")
        name = _with_options(values, name, known)
        hint, node, path = _hint(experiment, name, known), values, name.split(".")
        if name.startswith("data.options."):
            default = _options_of(values["data"]["name"]).get(path[-1])
            hint = str if isinstance(default, str) else hint  # A group 2023 is no number.
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = parse(text, hint, name)
    # All changes at once, so that the experiment is checked once, when whole.
    return config.from_dict(values)


def _with_options(values: Mapping, name: str, known: Sequence[str]) -> str:
    """data.group -> data.options.group: a name like no field is one of the group's options."""
    owner, _, last = name.rpartition(".")
    group = values.get(owner)
    if owner == "data" and last not in group and last in _options_of(group["name"]):
        return f"{owner}.options.{last}"
    if isinstance(group, Mapping) and isinstance(group.get("options"), Mapping):
        others = [f for f in known if f.startswith(owner) and ".options." not in f]
        if last not in group and not _nearest(name, others):
            return f"{owner}.options.{last}"
    return name


def _options_of(name: str) -> Mapping[str, Any]:
    """The options of one of our data sets; none of another."""
    try:
        return getattr(tfds.builder_cls(name.partition("/")[0]), "OPTIONS", {})
    except ValueError:  # Unknown data set: opening it raises the error.
        return {}


def _hint(experiment: Experiment, name: str, known: Sequence[str]) -> Any:
    """The type of the field of a dotted name; ValueError where there is none, or it is a group."""
    value, hint, owner = experiment, Experiment, ""
    for part in name.split("."):
        if isinstance(value, Mapping):
            if name != f"{owner}.{part}":
                raise ValueError(f"{name}: a dict inside a dict cannot be set by name.")
            return Any  # A dict takes any key; its reader knows better.
        if not fields.is_config(value):
            raise ValueError(f"{name}: {owner} is a {type(value).__name__} and has no fields.")
        if isinstance(value, nn.Module) and part in fields.LINEN:
            raise ValueError(f"{name}: Linen owns the field {part!r} of a model; leave it alone.")
        dots = f"{owner}." if owner else ""
        hints = fields.hints(value)
        if part not in hints:
            there = f"there are {', '.join(dots + known for known in hints)}."
            raise ValueError(f"{name}: no such field; {_nearest(name, known) or there}")
        value, hint, owner = getattr(value, part), hints[part], dots + part
    if fields.is_config(value):
        example = next((field for field in known if field.startswith(f"{name}.")), name)
        raise ValueError(f"{name} is a group of fields; set one of them, such as {example}.")
    return hint


def _nearest(name: str, known: Sequence[str]) -> str:
    """A question about the fields or groups nearest to a wrong name; none where none is near."""
    owner, _, wrong = name.rpartition(".")
    groups = {field.rpartition(".")[0] for field in known} - {""}
    # A field's name without its group, such as learning_rate, is found too; of two the group's own.
    ranked = sorted((*known, *groups), key=lambda field: field.rpartition(".")[0] == owner)
    dotted = {field.rpartition(".")[2]: field for field in ranked}
    near = difflib.get_close_matches(wrong, dotted, 2, cutoff=0.7)
    return f"did you mean {' or '.join(dotted[leaf] for leaf in near)}?" if near else ""


def parse(text: str, hint: Any, where: str) -> Any:
    """The value of type `hint` that a text stands for. Raises ValueError naming both."""
    try:
        value = WORDS[text.lower()] if text.lower() in WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        value = text
    if isinstance(value, str) and hint is not Any:
        value = text  # Quotes belong to it.
    row = any(typing.get_origin(h) is tuple for h in (hint, *typing.get_args(hint)))
    if row and value is not None and not isinstance(value, tuple | list):
        value = (value,)
    try:
        return fields.accept(value, hint, where)
    except ValueError:
        return fields.accept(text, hint, where)  # A string may look like anything else.
