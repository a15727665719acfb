"""`--set model.width=32`: new values for the fields of an experiment, read by their types."""

import ast
import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flax import linen as nn

from zoo.train import fields
from zoo.train.config import Experiment

BOOLS = {"true": True, "false": False}


def apply(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment with some fields changed; a later override of one field wins.

    Args:
        overrides: "FIELD=VALUE", FIELD a dotted name. By the field's type VALUE is a number, a
            string, true or false, none, or a tuple ("3,4" or "(3, 4)"); a key of a dict is set by
            its name, as in data.options.validation=tail.

    Raises:
        ValueError: no "=", an unknown field (with the nearest), a wrong type (with the
            expected), a value that makes no sense.
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
    if path[0] in leaves:
        return f"; did you mean {leaves[path[0]]}"
    for names, word in ((here, path[depth]), (leaves, path[-1])):
        near = fields.close(word, names)
        if near:
            return f"; did you mean {' or '.join(names[name] for name in near)}"
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
    replace = nn.Module.clone if isinstance(config, nn.Module) else dataclasses.replace
    return replace(config, **new)


def parse(text: str, hint: Any, where: str) -> Any:
    """The value of type `hint` that a text stands for. Raises ValueError naming both."""
    if fields.is_union(hint):
        # A string takes any text, so it is tried last.
        for arg in sorted(typing.get_args(hint), key=lambda arg: arg is str):
            try:
                return parse(text, arg, where)
            except ValueError:
                continue
    elif hint is type(None):
        if text.lower() == "none":
            return None
    elif hint is bool:
        if text.lower() in BOOLS:
            return BOOLS[text.lower()]
    elif hint in (int, float):
        try:
            return fields.accept(hint(text), hint, where)
        except ValueError:
            pass  # int and float have their own words; ours are below.
    elif hint is str:
        return text
    elif typing.get_origin(hint) is typing.Literal:
        return fields.accept(text, hint, where)
    elif typing.get_origin(hint) is tuple:
        parts = [part.strip() for part in text.strip("()[] ").rstrip(",").split(",")]
        args = typing.get_args(hint)
        each = [args[0]] * len(parts) if args[-1] is Ellipsis else list(args)
        if len(parts) == len(each):
            try:
                return tuple(parse(p, h, where) for p, h in zip(parts, each, strict=True))
            except ValueError:
                pass  # The message below names the whole tuple.
    else:
        return fields.accept(_literal(text, where), hint, where)
    raise ValueError(f"{where}: expected {fields.describe(hint)}, got {text!r}.")


def _literal(text: Any, where: str) -> Any:
    """A value without a type to go by: a Python literal, true, false, none, or the text itself."""
    if not isinstance(text, str):
        raise ValueError(f"{where}: a dict inside a dict cannot be set by name.")
    if text.lower() in BOOLS:
        return BOOLS[text.lower()]
    if text.lower() == "none":
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value
