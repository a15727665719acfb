"""The fields of a configuration: which there are, which type each takes, and how JSON holds them.

A configuration is a dataclass of plain values (numbers, strings, bools, None, tuples, dicts) and
further configurations; a Linen model is one too, less the `parent` and `name` that belong to Linen.
"""

import dataclasses
import math
import pkgutil
import types
import typing
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from zoo.data.checks import nearest

LINEN = ("parent", "name")
UNION = (typing.Union, types.UnionType)
PLAIN = (bool, int, float, str, type(None))


def hints(config: Any) -> dict[str, Any]:
    """The type of each field of a configuration or its class, in order."""
    cls = config if isinstance(config, type) else type(config)
    linen, found = LINEN if issubclass(cls, nn.Module) else (), typing.get_type_hints(cls)
    fields = (f.name for f in dataclasses.fields(cls) if f.init and f.name not in linen)
    return {name: found[name] for name in fields}


def is_config(value: Any) -> bool:
    """Whether a value is a configuration, not a class of one."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def set_everywhere(config: Any, name: str, value: Any) -> Any:
    """A configuration with the field `name` changed in it and in all it holds that have one."""
    values = {k: getattr(config, k) for k in hints(config)}
    new = {k: set_everywhere(v, name, value) for k, v in values.items() if is_config(v)}
    if name in values:
        new[name] = value
    return dataclasses.replace(config, **new)


def describe(hint: Any) -> str:
    """A type as a person writes it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in UNION:
        return " or ".join(map(describe, args))
    if origin is tuple:
        return f"({', '.join(map(describe, args))})"
    special = {type(None): "none", Ellipsis: "..."}
    return special.get(hint) or getattr(origin or hint, "__name__", str(hint))


def accept(value: Any, hint: Any, where: str) -> Any:
    """The value as the type `hint` holds it: an int becomes a float, a list of JSON a tuple.

    Raises ValueError naming the field (`where`, its dotted name), the expected type and the value.
    """
    if hint is Any:
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in UNION:
        for arg in args:
            try:
                return accept(value, arg, where)
            except ValueError:
                continue
    elif origin is typing.Literal:
        if value in args:
            return value
        near = nearest(str(value), [str(arg) for arg in args])
        raise ValueError(f"{where}: expected {describe(hint)}, got {value!r}{near}.")
    elif origin is tuple and isinstance(value, tuple | list):
        each = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(each) == len(value):
            return tuple(accept(v, h, where) for v, h in zip(value, each, strict=True))
    elif hint in (int, float):
        number = isinstance(value, int | hint) and not isinstance(value, bool)
        if number and abs(value) < 1e308:  # False for nan too; an int may be too large for a float.
            return hint(value)
    elif isinstance(value, origin or hint):
        return value
    raise ValueError(f"{where}: expected {describe(hint)}, got {value!r}.")


def check_types(config: Any) -> None:
    """Raises ValueError for the first field of a configuration whose value is not of its type."""
    for name, hint in hints(config).items():
        accept(getattr(config, name), hint, f"{type(config).__name__}.{name}")


def encode(value: Any, where: str, hint: Any = Any) -> Any:
    """A value as JSON holds it. A configuration that its type does not tell carries its "class".

    Raises ValueError for what JSON cannot give back exactly, such as a function, an array or nan.
    """
    if is_config(value):
        cls = type(value)
        if "<locals>" in cls.__qualname__:
            problem = f"{where}: {cls.__qualname__} is defined inside a function"
            raise ValueError(f"{problem} and cannot be read back; define it in a module.")
        head = {} if hint is cls else {"class": f"{cls.__module__}.{cls.__qualname__}"}
        dots = f"{where}." if where else ""
        return head | {k: encode(getattr(value, k), dots + k, h) for k, h in hints(cls).items()}
    if isinstance(value, tuple):
        return [encode(v, where) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: encode(v, f"{where}.{k}") for k, v in value.items()}
    if type(value) in PLAIN and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    problem = f"{where}: {value!r} ({type(value).__name__}) cannot be kept in JSON and given back"
    wanted = "finite numbers, strings, bools, None, tuples and dicts of them"
    raise ValueError(f"{problem}; use {wanted}.")


def decode(value: Any, where: str, hint: Any = Any) -> Any:
    """What `encode` was given; ValueError for a class or field unknown or missing, or a wrong type.

    A class is imported by the name the file holds; only Linen modules and dataclasses are called.
    Importing a module runs it, so read files of people you trust.
    """
    if isinstance(value, dict):
        cls = _find(value["class"], where) if "class" in value else hint
        if dataclasses.is_dataclass(cls):
            return _build(cls, value, where)
        value = {k: decode(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list):
        value = tuple(decode(v, where) for v in value)
    return accept(value, hint, where)


def _build(cls: type, fields: Mapping[str, Any], where: str) -> Any:
    types_, dots = hints(cls), f"{where}." if where else ""
    given = {k: v for k, v in fields.items() if k != "class"}
    for name in given:
        if name not in types_:
            near = nearest(name, types_) or f"; there are {', '.join(types_)}"
            raise ValueError(f"{dots}{name}: no such field{near}.")
    for f in dataclasses.fields(cls):
        needed = f.default is f.default_factory is dataclasses.MISSING
        if needed and f.name in types_ and f.name not in given:
            raise ValueError(f"{dots}{f.name}: missing; expected {describe(types_[f.name])}.")
    return cls(**{k: decode(v, dots + k, types_[k]) for k, v in given.items()})


def _find(path: str, where: str) -> type:
    try:
        found = pkgutil.resolve_name(str(path))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{where}: the class {path!r} cannot be imported: {error}") from error
    if isinstance(found, type) and dataclasses.is_dataclass(found):
        return found
    raise ValueError(f"{where}: {path!r} is neither a Linen module nor a dataclass.")
