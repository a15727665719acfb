"""What a row of the benchmark is: one piece of work, and a side for each library that does it."""

import contextlib
import dataclasses
import os
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
    wait: Callable[[], None] = lambda: None  # Ends what calls only began; once a round.


@dataclasses.dataclass(frozen=True)
class Side:
    """One library's part of a row, made and timed in a process of its own."""

    make: str  # "module:function", called with `options`; returns a Case.
    options: Mapping[str, Any]
    packages: tuple[str, ...]  # That must be importable, and whose versions are kept.
    tool: str | None = None  # A program that must be on the path.
    gpu: bool = False  # Runs on a GPU, and is not run where there is none.
    limit_gib: int | None = None  # Of address space, so that what does not fit dies by itself.
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """Work that every side does, in seconds a call. Names are FAMILY/WHAT, as "unet/train"."""

    name: str
    what: str  # The work and its size, for the table.
    sides: Mapping[str, Side]  # By name; `OURS` first.
    images: int = 0  # That a call sees, where a rate is wanted.

    @property
    def on_gpu(self) -> bool:
        return any(side.gpu for side in self.sides.values())


def model_gflops(apply: Callable, *args) -> float:
    """What one call must compute, by XLA's count of the program as it is written.

    Counted on the CPU: of a program that is not compiled, a GPU's client tells nothing.
    """
    import jax

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with jax.default_device("cpu"):
        return jax.jit(apply).lower(*shapes).cost_analysis()["flops"] / 1e9


def jax_facts(compiled, model_gflops: float | None = None) -> dict[str, float]:
    """Temporaries and FLOPs, by XLA, of a compiled program; and what its model must compute."""
    cost = compiled.cost_analysis() or {}
    needed = {} if model_gflops is None else {"model_gflops": model_gflops}
    return needed | {
        "temporaries_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
        "gflops": cost.get("flops", 0.0) / 1e9,
        "gib_accessed": cost.get("bytes accessed", 0.0) / 2**30,
    }


def torch_on(device: str, net, image):
    """A network and its pictures [b, h, w, c] on a device, a context to run it in, and `wait`.

    On a GPU it runs in bfloat16 as PyTorch's guides have it; on the CPU on all cores, in float32.
    """
    import torch

    image = image.permute(0, 3, 1, 2)
    if device == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        return net, image.contiguous(), contextlib.nullcontext(), lambda: None
    torch.backends.cudnn.benchmark = True
    net, image = (x.to(device, memory_format=torch.channels_last) for x in (net, image))
    return net, image, torch.autocast(device, torch.bfloat16), torch.cuda.synchronize
