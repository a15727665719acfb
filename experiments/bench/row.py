"""What a row of the benchmark is: one piece of work, and a side for each library that does it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

OURS = "zoo"  # The side that the others are compared with.


class Case(NamedTuple):
    """What a side makes in its own process, ready to be timed."""

    # Does the work once, to its end. Returns a value that all sides share, None where there is
    # none; or the seconds of one unit of work where `clocked`.
    call: Callable[[], float | None]
    facts: Mapping[str, Any] = {}  # More to keep in bench.json, by name; JSON.
    clocked: bool = False  # `call` takes the time itself.
    elsewhere: bool = False  # Processes that outlive a call do work: CPU time cannot be told.


@dataclasses.dataclass(frozen=True)
class Side:
    """One library's part of a row, made and timed in a process of its own."""

    make: str  # "module:function", called with `options`; returns a Case.
    options: Mapping[str, Any]
    packages: tuple[str, ...]  # That must be importable, and whose versions are kept.
    tool: str | None = None  # A program that must be on the path.
    limit_gib: int | None = None  # Of address space, so that what does not fit dies by itself.
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """Work that every side does, in seconds a call. Names are FAMILY/WHAT, as "unet/train"."""

    name: str
    what: str  # The work and its size, for the table.
    sides: Mapping[str, Side]  # By name; `OURS` first.
    images: int = 0  # That a call sees, where a rate is wanted.


def jax_facts(compiled) -> dict[str, float]:
    """Temporaries and FLOPs, by XLA, of a compiled program."""
    cost = compiled.cost_analysis() or {}
    return {
        "temporaries_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
        "gflops": cost.get("flops", 0.0) / 1e9,
        "gib_accessed": cost.get("bytes accessed", 0.0) / 2**30,
    }
