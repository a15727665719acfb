"""What a report lists beside the scores: command, machine, data, time and memory."""

import hashlib
import json
import pathlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.environment import FILE
from experiments.report.page import Table
from zoo.train.run import Run

SAMPLE = 64  # Examples of a split that its hash is over; all would mean to decode all.
SPLITS = ["split", "used for", "pictures", f"hash of {SAMPLE} at most"]  # Heads of `splits`.


def environment(workdir: pathlib.Path) -> tuple[str, Table]:
    """The command as it can be typed again, and environment.json as a table, if it was kept."""
    if not (path := workdir / FILE).is_file():
        return "", Table("Environment", ["what", "which"], [])
    return recorded(path.read_bytes())


def recorded(content: bytes) -> tuple[str, Table]:
    """The same of the content of environment.json."""
    facts = json.loads(content)
    program, *arguments = facts.pop("command")
    module = pathlib.Path(program).with_suffix("").parts[-2:]
    known = module == ("experiments", "launch")  # `python -m` leaves the module's whole path.
    start = ["-m", ".".join(module)] if known else [program]
    versions, devices = facts.pop("versions"), facts.pop("devices")
    flat = {**facts, "devices": "{count} of {kind}, {processes} process(es)".format(**devices)}
    flat |= versions
    rows = [[key.replace("_", " "), str(value)] for key, value in flat.items() if value is not None]
    return shlex.join(["python", *start, *arguments]), Table("Environment", ["what", "which"], rows)


def data(run: Run) -> Table:
    """The splits a run has used, their sizes and hashes."""
    return Table(f"Data: {run.info.name}", SPLITS, splits(run))


def splits(run: Run) -> list[list[str]]:
    """A line for each split: its name, what it was used for, its size and hash."""
    config = run.experiment
    used = [(config.data.train_split, "training"), (config.data.validation_split, "best step")]
    used += [(config.split, "result"), (getattr(config.task, "gallery", None), "searched in")]
    purposes = {split: [use for other, use in used if other == split] for split, _ in used if split}
    return [
        [split, ", ".join(uses), f"{len(source):,}", digest(source)]
        for split, uses in purposes.items()
        for source in [run.source(split)]
    ]


def digest(source: Sequence[Mapping[str, Any]]) -> str:
    """16 hex digits of SHA-256 over a split's size and `SAMPLE` evenly spaced examples.

    Of each its name, and the type, shape and bytes of its image and label. Equal data give equal
    digits wherever they lie; a change among the other examples is not seen.
    """
    found = hashlib.sha256(str(len(source)).encode())
    for place in np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int):
        example = source[int(place)]
        for key in sorted(example):
            value = np.ascontiguousarray(example[key])
            found.update(f"{key} {value.dtype} {value.shape} ".encode())
            found.update(value.tobytes())
    return found.hexdigest()[:16]


def training(records: Iterable[Mapping[str, Any]], batch_size: int) -> tuple[float, int]:
    """Seconds that training steps took, and the number of steps these are known of.

    From the images per second that are logged: compiling, evaluating and saving are not in it.
    """
    seconds, steps, before = 0.0, 0, 0
    for record in records:
        if record["split"] == "train":
            if "images_per_second" in record:
                taken = record["step"] - before
                seconds += taken * batch_size / record["images_per_second"]
                steps += taken
            before = record["step"]
    return seconds, steps


def cost(run: Run, records: Iterable[Mapping[str, Any]]) -> Table:
    """Time and memory, as far as they are known."""
    seconds, steps = training(records, run.experiment.data.batch_size)
    taken = f"{seconds:,.1f} s in {steps:,} steps; compiling, evaluating and saving not counted"
    rows = [["training", taken if steps else "too few steps to tell"]]
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mib = peak / (2**20 if sys.platform == "darwin" else 2**10)  # Bytes there, KiB elsewhere.
        rows.append(["peak memory", f"{mib:,.0f} MiB of the process that wrote this page"])
    except ImportError:  # Windows has no such module.
        pass
    on_device = (run.layout.devices[0].memory_stats() or {}).get("peak_bytes_in_use")
    if on_device is not None:  # A CPU reports none.
        rows.append(["peak device memory", f"{on_device / 2**20:,.0f} MiB of the first device"])
    return Table("Time and memory", ["what", "how much"], rows)
