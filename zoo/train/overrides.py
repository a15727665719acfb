"""`--set model.width=32`: new values for the fields of an experiment, read by their types."""

import ast
import dataclasses
import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flax import linen as nn

from zoo.train import fields
from zoo.train.config import Experiment

WORDS = {"true": True, "false": False, "none": None}


def apply(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment with some fields changed; a later override of one field wins.

    Each is "FIELD=VALUE", FIELD a dotted name. By the field's type VALUE is a number, a string,
    true or false, none, or a tuple ("3,4" or "(3, 4)"); a key of a dict is set by its name, as in
    data.options.validation=tail. Raises ValueError for no "=", an unknown field (with the nearest),
    a wrong type (with the expected), a value that makes no sense.
    """
    texts: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--set takes FIELD=VALUE, such as steps=500; got {override!r}.")
        path = name.strip().split(".")
        _check(experiment, path)
        node = texts
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if isinstance(node, str):
                raise ValueError(f"--set {override}: {part} has been set as a whole already.")
        node[path[-1]] = text.strip()
    return _changed(experiment, texts, "")


def _check(experiment: Experiment, path: list[str]) -> None:
    """Raises ValueError where no field has that name."""
    value: Any = experiment
    for depth, part in enumerate(path):
        if isinstance(value, Mapping):
            return  # A dict takes any key; its reader knows better.
        whole, owner = ".".join(path), ".".join(path[:depth])
        if not fields.is_config(value):
            raise ValueError(f"{whole}: {owner} is a {type(value).__name__} and has no fields.")
        if isinstance(value, nn.Module) and part in fields.LINEN:
            raise ValueError(f"{whole}: Linen owns the field {part!r} of a model; leave it alone.")
        if part not in fields.names(value):
            raise ValueError(f"{whole}: no such field{_nearest(experiment, value, path, depth)}.")
        value = getattr(value, part)


def _nearest(experiment: Experiment, config: Any, path: list[str], depth: int) -> str:
    """The words that end the message about `path[depth]`, which `config` does not have."""
    owner = "".join(f"{part}." for part in path[:depth])
    here = {name: owner + name for name in fields.names(config)}
    # A field's name without its group, such as learning_rate, is found too.
    leaves = {name.rpartition(".")[2]: name for name in _all(experiment)}
    near = [leaves[path[0]]] if path[0] in leaves else []
    near = near or [here[name] for name in difflib.get_close_matches(path[depth], here)]
    near = near or [leaves[name] for name in difflib.get_close_matches(path[-1], leaves)]
    if near:
        return f"; did you mean {' or '.join(near)}"
    return f"; there are {', '.join(here.values())}"


def _all(config: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields, groups left out."""
    for name in fields.names(config):
        value = getattr(config, name)
        if fields.is_config(value):
            yield from _all(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _changed(config: Any, texts: Mapping[str, Any], prefix: str) -> Any:
    """A configuration with all its changes at once, so that it is checked once, when whole."""
    types, new = fields.hints(config), {}
    for name, text in texts.items():
        where, value = prefix + name, getattr(config, name)
        if isinstance(text, str) and fields.is_config(value):
            example = next(_all(value, where + "."), where)
            raise ValueError(f"{where} is a group of fields; set one of them, such as {example}.")
        if isinstance(text, str):
            new[name] = parse(text, types[name], where)
        elif isinstance(value, Mapping):
            new[name] = {**value, **{k: _literal(v, f"{where}.{k}") for k, v in text.items()}}
        else:
            new[name] = _changed(value, text, where + ".")
    return dataclasses.replace(config, **new)


def parse(text: str, hint: Any, where: str) -> Any:
    """The value of type `hint` that a text stands for. Raises ValueError naming both."""
    value = _literal(text, where)
    if isinstance(value, str):
        value = text  # Quotes belong to it.
    if typing.get_origin(hint) is tuple and not isinstance(value, tuple):
        value = (value,)
    try:
        return fields.accept(value, hint, where)
    except ValueError:
        return fields.accept(text, hint, where)  # A string may look like anything else.


def _literal(text: Any, where: str) -> Any:
    """A value without a type to go by: a Python literal, true, false, none, or the text itself."""
    if not isinstance(text, str):
        raise ValueError(f"{where}: a dict inside a dict cannot be set by name.")
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value
