"""The fields of a configuration: which there are, which type each takes, and how JSON holds them.

A configuration is a dataclass of plain values (numbers, strings, bools, None, tuples, dicts) and
further configurations; a Linen model is one too, less the `parent` and `name` that belong to Linen.
"""

import dataclasses
import difflib
import importlib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from flax import linen as nn

LINEN = ("parent", "name")
PLAIN = (bool, int, float, str, type(None))


def names(config: Any) -> tuple[str, ...]:
    """The fields of a configuration or its class, in order."""
    cls = config if isinstance(config, type) else type(config)
    linen = LINEN if issubclass(cls, nn.Module) else ()
    return tuple(f.name for f in dataclasses.fields(cls) if f.init and f.name not in linen)


def hints(config: Any) -> dict[str, Any]:
    """The type of each field."""
    cls = config if isinstance(config, type) else type(config)
    return {k: h for k, h in typing.get_type_hints(cls).items() if k in names(cls)}


def is_config(value: Any) -> bool:
    """Whether a value is a configuration, not a class of one."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def close(word: str, words: Iterable[str]) -> list[str]:
    """At most three of `words` that `word` may be a slip for, the likeliest first."""
    return difflib.get_close_matches(word, list(words), n=3, cutoff=0.6)


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest ones or, with none near, all."""
    near = close(word, words)
    if near:
        return f"; did you mean {' or '.join(near)}"
    return f"; there are {', '.join(words)}"


def describe(hint: Any) -> str:
    """A type as a person writes it."""
    args = typing.get_args(hint)
    if hint is type(None):
        return "none"
    if is_union(hint):
        return " or ".join(map(describe, args))
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, args))
    if typing.get_origin(hint) is tuple:
        inner = ["..." if arg is Ellipsis else describe(arg) for arg in args]
        return f"({', '.join(inner)})"
    return getattr(typing.get_origin(hint) or hint, "__name__", str(hint))


def is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def accept(value: Any, hint: Any, where: str) -> Any:
    """The value as the type `hint` holds it: an int becomes a float, a list of JSON a tuple.

    Args:
        where: the field's dotted name, for the message.

    Raises:
        ValueError: naming the field, the expected type and the value.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if is_union(hint):
        for arg in args:
            try:
                return accept(value, arg, where)
            except ValueError:
                continue
    elif origin is typing.Literal:
        if value in args:
            return value
        if isinstance(value, str):
            raise ValueError(
                f"{where}: expected {describe(hint)}, got {value!r}{nearest(value, args)}."
            )
    elif origin is tuple and isinstance(value, tuple | list):
        each = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(each) == len(value):
            return tuple(accept(v, h, where) for v, h in zip(value, each, strict=True))
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, origin or hint):
        return value
    raise ValueError(f"{where}: expected {describe(hint)}, got {value!r}.")


def check_types(config: Any) -> None:
    """Raises ValueError for the first field of a configuration whose value is not of its type."""
    for name, hint in hints(config).items():
        accept(getattr(config, name), hint, f"{type(config).__name__}.{name}")


def encode(value: Any, where: str, hint: Any = Any) -> Any:
    """A value as JSON holds it. A configuration that its type does not tell carries its "class".

    Raises:
        ValueError: for what JSON cannot give back exactly, such as a function, an array or nan.
    """
    if is_config(value):
        cls = type(value)
        if "<locals>" in cls.__qualname__:
            raise ValueError(
                f"{where}: {cls.__qualname__} is defined inside a function and cannot be read "
                f"back; define it in a module."
            )
        head = {} if hint is cls else {"class": f"{cls.__module__}.{cls.__qualname__}"}
        types_ = hints(cls)
        return head | {
            k: encode(getattr(value, k), f"{where}.{k}" if where else k, types_[k])
            for k in names(cls)
        }
    if isinstance(value, tuple):
        return [encode(v, where) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: encode(v, f"{where}.{k}") for k, v in value.items()}
    if type(value) in PLAIN and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    raise ValueError(
        f"{where}: {value!r} ({type(value).__name__}) cannot be kept in JSON and given back; use "
        f"finite numbers, strings, bools, None, tuples and dicts of them."
    )


def decode(value: Any, where: str, hint: Any = Any) -> Any:
    """What `encode` was given.

    A class is imported by the name the file holds; only Linen modules and dataclasses are
    called. Importing a module runs it, so read files of people you trust.

    Raises:
        ValueError: a class that cannot be found, an unknown or missing field, a wrong type.
    """
    if isinstance(value, dict) and "class" in value:
        return _build(_find(value["class"], where), value, where)
    if isinstance(value, dict) and dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if isinstance(value, dict):
        value = {k: decode(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list):
        value = tuple(decode(v, where) for v in value)
    return accept(value, hint, where)


def _build(cls: type, fields: Mapping[str, Any], where: str) -> Any:
    types_, given = hints(cls), {k: v for k, v in fields.items() if k != "class"}
    dots = f"{where}." if where else ""
    for name in given:
        if name not in types_:
            raise ValueError(f"{dots}{name}: no such field{nearest(name, types_)}.")
    for f in dataclasses.fields(cls):
        needed = f.default is f.default_factory is dataclasses.MISSING
        if needed and f.name in types_ and f.name not in given:
            raise ValueError(f"{dots}{f.name}: missing; expected {describe(types_[f.name])}.")
    return cls(**{k: decode(v, dots + k, types_[k]) for k, v in given.items()})


def _find(path: str, where: str) -> type:
    module, _, name = str(path).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{where}: the class {path!r} cannot be imported: {error}") from error
    if isinstance(found, type) and dataclasses.is_dataclass(found):
        return found
    raise ValueError(f"{where}: {path!r} is neither a Linen module nor a dataclass.")
