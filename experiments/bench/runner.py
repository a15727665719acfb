"""Runs a row: every side in a process of its own, rounds that alternate, and what came of it.

A side whose library is missing, that dies or that runs out of memory says so in its `status`, and
the others go on.
"""

import contextlib
import dataclasses
import datetime
import functools
import importlib.util
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np

from experiments import huge_pages
from experiments.bench.row import OURS, Row, Side

ROOT = pathlib.Path(__file__).resolve().parents[2]
NO_GPU = "not run (no GPU)"
GROUP = 4  # Rows of a GPU that warm up at a time: of 16 at once compilers took minutes.
MEASURED = "measured"  # The status of a side that has times.
# What libraries say of memory in vain: Python, torch, XLA, the C++ runtime.
_NO_MEMORY = re.compile(r"MemoryError|can't allocate|RESOURCE_EXHAUSTED|bad_alloc|[Oo]ut of memory")


class Child:
    """A side's process. `status` tells what became of it, `result` what it said.

    It is killed where it is not ready in `patience` seconds.
    """

    def __init__(self, side: Side, patience: float | None = None):
        self.side, self.status, self.result = side, MEASURED, {}
        self.rounds: list[dict[str, float]] = []
        self._process = None
        for package in side.packages:
            if importlib.util.find_spec(package) is None:
                self.status = f"peer not installed ({package})"
                return
        if side.gpu and not gpus():
            self.status = NO_GPU
            return
        if side.tool is not None and shutil.which(side.tool) is None:
            self.status = f"not run (no {side.tool})"
            return
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        cores = str(len(os.sched_getaffinity(0)))
        settings = {"OMP_NUM_THREADS": cores}  # A peer has as many threads as there are cores.
        if side.gpu:  # The first alone; several processes share its memory.
            settings |= {"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        else:
            settings |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
            if "jax" in side.packages:  # As the launcher does; Keras on JAX gets it too.
                settings |= huge_pages.to_ask(os.environ)
        settings["JAX_TRACEBACK_FILTERING"] = "off"  # Or the last line would not be the error.
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.bench.child", json.dumps(dataclasses.asdict(side))],
            env={**os.environ, **settings, "PYTHONPATH": path, **side.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        timer = threading.Timer(patience or threading.TIMEOUT_MAX, self._process.kill)
        timer.daemon = True
        timer.start()
        self.result = self._read()
        if not timer.is_alive():
            self.status = f"not ready in {patience:g} s"
        timer.cancel()

    def _read(self) -> dict[str, Any]:
        """The next line it says; {} where it died."""
        if line := self._process.stdout.readline():
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip()
        if _NO_MEMORY.search(said[-4000:]):
            limit = self.side.limit_gib
            self.status = f"out of memory ({limit} GiB of address space)" if limit else "no memory"
        else:
            last = said.splitlines()[-1] if said else "said nothing"
            self.status = f"died (exit code {code}: {last[:200]})"
        return {}

    def round(self) -> None:
        """Takes its time once more."""
        if self.status != MEASURED:
            return
        with contextlib.suppress(BrokenPipeError):  # Dead between two rounds: `_read` finds how.
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        if line := self._read():
            self.rounds.append(line)

    def end(self) -> dict[str, Any]:
        """Ends the process; returns what bench.json keeps of the side."""
        if self.status == MEASURED:
            self._process.stdin.close()
            self.result |= self._read()
        if self._process is not None:
            self._process.kill()  # Only if it is still there.
            self._process.wait()
            for file in (self._process.stdin, self._process.stdout, self._errors):
                with contextlib.suppress(BrokenPipeError):
                    file.close()
        kept = {"status": self.status, **self.result}
        kept["times"] = [line["seconds"] for line in self.rounds]
        kept["cpu"] = [line["cpu"] for line in self.rounds if "cpu" in line]
        if self.rounds:
            kept["median"] = statistics.median(kept["times"])
        return kept


def measure(
    row: Row,
    repeats: int,
    patience: float | None = None,
    children: dict[str, Child] | None = None,
) -> dict[str, Any]:
    """One row's record for bench.json; `ratios` and `cpu_ratios` are round by round.

    Makes the sides one after the other, so that no warm-up disturbs another, or takes those made.
    """
    load, children = [os.getloadavg()[0]], {} if children is None else children
    products = []
    try:
        for name, side in row.sides.items():
            children[name] = children.get(name) or Child(side, patience)
        order = list(children.values())
        for _ in range(repeats):
            for child in order:
                child.round()
            order.reverse()
            if not row.on_gpu and "model_gflops" in children[OURS].result.get("facts", {}):
                products.append(product_gflops())
    finally:
        sides = {name: child.end() for name, child in children.items()}
    load.append(os.getloadavg()[0])
    return {
        "what": row.what,
        "images": row.images,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "hardware": ", ".join([*gpus()[:1]] * row.on_gpu + [hardware()]),
        "python": platform.python_version(),
        "load": [round(x, 1) for x in load],
        "repeats": repeats,
        "sides": sides,
        "ratios": ratios(sides, "times"),
        "cpu_ratios": ratios(sides, "cpu"),
        **({"product_gflops": products} if products else {}),
    }


def product_gflops(size: int = 2048) -> float:
    """GFLOP/s of a product of float32 matrices by NumPy's BLAS on all cores: about what they give.

    The best of three: a first one wakes the threads.
    """
    left, right = np.random.default_rng(0).random((2, size, size), np.float32)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def measure_all(
    rows: list[Row], repeats: int, patience: float | None = None
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Rows and their records. Those of a GPU warm up together, and are timed one by one after it.

    Their compilers take minutes of one core each, and the machine of a GPU has many.
    """
    on_gpu = [row for row in rows if row.on_gpu]
    for row in rows:
        if row not in on_gpu:
            yield row, measure(row, repeats, patience)
    for start in range(0, len(on_gpu), GROUP):
        group = on_gpu[start : start + GROUP]
        sides = [(row.name, name, side) for row in group for name, side in row.sides.items()]
        with futures.ThreadPoolExecutor(len(sides)) as pool:
            made = list(pool.map(lambda each: Child(each[2], patience), sides))
        children = {row.name: {} for row in group}
        for (row_name, name, _), child in zip(sides, made, strict=True):
            children[row_name][name] = child
        for row in group:
            yield row, measure(row, repeats, patience, children[row.name])


@functools.cache
def gpus() -> tuple[str, ...]:
    """The names of the machine's GPUs, as NVIDIA's driver tells them."""
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return () if done.returncode else tuple(done.stdout.split("\n")[:-1])


def ratios(sides: dict[str, dict], kind: str) -> dict[str, list[float]]:
    """Ours by each peer's, of each round in which both were there."""
    mine = sides[OURS][kind]
    others = {name: side[kind] for name, side in sides.items() if name != OURS}
    pairs = {name: list(zip(mine, times, strict=False)) for name, times in others.items()}
    return {name: [x / y for x, y in both] for name, both in pairs.items() if both}


def hardware() -> str:
    """The processor and how many cores this process may use.

    With family and model: clouds name processors of several years just "AMD EPYC".
    """
    cores = f"{len(os.sched_getaffinity(0))} cores"
    try:
        told = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    names = ("model name", "cpu family", "model")
    found = [re.search(rf"^{name}\s*: (.*)", told, re.MULTILINE) for name in names]
    if not all(found):
        return f"{platform.machine()}, {cores}"
    name, family, model = (match[1] for match in found)
    return f"{name} (family {family}, model {model}), {cores}"
