"""Plans of training batches: which pictures, and all that is random in their change.

Many steps at a time, and where a device waits for plans, ahead of it by processes of their own.
What a plan holds depends on the seed and the step alone, whoever draws it.
"""

import concurrent.futures.process
import contextlib
import dataclasses
import functools
import math
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import grain
import jax
import numpy as np

from zoo.data.augment import draw, turned
from zoo.data.batches import share
from zoo.data.config import Data
from zoo.data.images import Preprocess

Arrays = Mapping[str, np.ndarray | jax.Array]
Place = tuple[int, tuple[int, int]]  # Pixels of other pictures before a picture's; its (h, w).
Span = tuple[int, int, int]  # First step, the one behind the last, and how many there is room for.


@dataclasses.dataclass(frozen=True)
class Planner:
    """Plans what `train_batches` makes: the pictures at `places`, in Grain's order.

    `where` tells `process_index` and `process_count`, of the run and not of those that plan.
    """

    places: Sequence[Place]
    data: Data
    preprocess: Preprocess
    seed: int
    where: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __call__(self, span: Span) -> Arrays:
        """This process's share of the batches of a span, [b, n, ...] each, see `_planned`.

        Those that are there for room alone are 0; "weight" [b, n] float32 is 1 for the others.
        """
        start, end, room = span
        rows, mine = share(self.data.batch_size, **self.where)
        # As deep as the data set of `train_batches`, so that Grain seeds it alike: the same order,
        # and the same numbers for every picture. A range costs half of what a source costs.
        order = grain.MapDataset.range(len(self.places)).seed(self.seed).shuffle().repeat(None)
        how = {"data": self.data, "preprocess": self.preprocess}
        items = order.random_map(lambda i, rng: _planned(self.places[i], rng, **how))
        plans = {"weight": np.zeros((rows, room), np.float32)}
        plans["weight"][:, : end - start] = 1
        for i in range(rows * (end - start)):
            step, row = divmod(i, rows)
            for key, array in items[mine.start + mine.step * (rows * start + i)].items():
                if key not in plans:  # Filled in place: to stack takes as long as to draw.
                    plans[key] = np.zeros((rows, room, *array.shape), array.dtype)
                plans[key][row, step] = array
        return plans


def _planned(
    place: Place, rng: np.random.Generator, *, data: Data, preprocess: Preprocess
) -> dict[str, np.ndarray]:
    """What makes one changed version of a picture: all that `draw` gives but the turn.

    That is in "place" [5] int32: pixel (i, j) of the turned picture lies at place[0] + i * place[1]
    + j * place[2], and its size is place[3:].
    """
    fill = tuple(255 * mean for mean in preprocess.mean)
    start, shape = place
    plan = draw(shape, rng, data.augment, crop=data.crop, fill=fill)
    del plan["whole"]
    plan["place"] = _laid(tuple(shape), *plan.pop("turn").tolist()).copy()
    plan["place"][0] += start
    return plan


@functools.lru_cache
def _laid(shape: tuple[int, int], *turn: int) -> np.ndarray:
    """The "place" of a turned picture that lies at 0."""
    pixels = turned(np.arange(math.prod(shape), dtype=np.int32).reshape(shape), {"turn": turn})
    strides = [step // pixels.itemsize for step in pixels.strides]
    return np.array([pixels[0, 0], *strides, *pixels.shape], np.int32)


def workers(platform: str) -> int:
    """How many processes plan for devices of a platform: a CPU has its cores for the steps."""
    return 0 if platform == "cpu" else max(0, min(8, len(os.sched_getaffinity(0)) - 2))


@contextlib.contextmanager
def ahead(planner: Planner, count: int) -> Iterator[Callable[[Span], Arrays]]:
    """The planner, or a function like it that has one of `count` processes of its own call it.

    To be called by as many threads. The processes start with the first calls, and end with the
    context or with this process. Raises what the planner raises, with where it was as its cause;
    RuntimeError where a process has ended.
    """
    if count == 0:
        yield planner
        return
    # Not forked: JAX has threads, whose locks a copy would keep.
    how = {"mp_context": multiprocessing.get_context("spawn"), "initializer": _begin}
    pool = concurrent.futures.ProcessPoolExecutor(count, **how, initargs=(planner,))

    def plan(span: Span) -> Arrays:
        try:
            return pool.submit(_plan, span).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            problem = "A process that plans batches has ended (killed, out of memory, see above)"
            raise RuntimeError(f"{problem}: launch the same command again to go on.") from error

    try:
        yield plan
    finally:
        pool.shutdown(cancel_futures=True)


_planner: Planner | None = None  # Of this process; sent once, since it knows every picture.


def _begin(planner: Planner) -> None:
    """The start of a process that plans: deaf to the terminal's Ctrl-C, and on no accelerator."""
    global _planner
    jax.config.update("jax_platforms", "cpu")
    os.setpgrp()  # A signal to all of the launch is one to save, for which a chunk must still come.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _planner = planner


def _end_with_parent() -> None:
    """A killed parent cannot stop its children: each watches it."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _plan(span: Span) -> Arrays:
    return _planner(span)
