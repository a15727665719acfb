"""Runs a row: every side in a process of its own, rounds that alternate, and what came of it.

A side whose library is missing, that dies or that runs out of memory says so in its `status`, and
the others go on.
"""

import contextlib
import dataclasses
import datetime
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
from typing import Any

from experiments.bench.row import OURS, Row, Side

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEASURED = "measured"  # The status of a side that has times.
# What libraries say of memory in vain: Python, torch, XLA, the C++ runtime.
_NO_MEMORY = re.compile(r"MemoryError|can't allocate|RESOURCE_EXHAUSTED|bad_alloc|[Oo]ut of memory")


class Child:
    """A side's process. `status` tells what became of it, `result` what it said."""

    def __init__(self, side: Side):
        self.side, self.status, self.result = side, MEASURED, {}
        self.rounds: list[dict[str, float]] = []
        self._process = None
        for package in side.packages:
            if importlib.util.find_spec(package) is None:
                self.status = f"peer not installed ({package})"
                return
        if side.tool is not None and shutil.which(side.tool) is None:
            self.status = f"not run (no {side.tool})"
            return
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        cores = str(len(os.sched_getaffinity(0)))
        # A peer has as many threads as there are cores; all of it runs on the CPU.
        settings = {"OMP_NUM_THREADS": cores, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
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
        self.result = self._read()

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


def measure(row: Row, repeats: int) -> dict[str, Any]:
    """One row's record for bench.json; `ratios` and `cpu_ratios` are round by round."""
    load, children = [os.getloadavg()[0]], {}
    try:
        # One after the other, so that no warm-up disturbs another.
        for name, side in row.sides.items():
            children[name] = Child(side)
        order = list(children.values())
        for _ in range(repeats):
            for child in order:
                child.round()
            order.reverse()
    finally:
        sides = {name: child.end() for name, child in children.items()}
    load.append(os.getloadavg()[0])
    return {
        "what": row.what,
        "images": row.images,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "hardware": hardware(),
        "python": platform.python_version(),
        "load": [round(x, 1) for x in load],
        "repeats": repeats,
        "sides": sides,
        "ratios": ratios(sides, "times"),
        "cpu_ratios": ratios(sides, "cpu"),
    }


def ratios(sides: dict[str, dict], kind: str) -> dict[str, list[float]]:
    """Ours by each peer's, of each round in which both were there."""
    mine = sides[OURS][kind]
    others = {name: side[kind] for name, side in sides.items() if name != OURS}
    pairs = {name: list(zip(mine, times, strict=False)) for name, times in others.items()}
    return {name: [x / y for x, y in both] for name, both in pairs.items() if both}


def hardware() -> str:
    """The processor and how many cores this process may use."""
    try:
        found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return f"{found[1] if found else platform.machine()}, {len(os.sched_getaffinity(0))} cores"
