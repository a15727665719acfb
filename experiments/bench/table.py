"""bench.json, which keeps the last record of every row, and the Markdown table made of it."""

import json
import os
import pathlib
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.bench.row import OURS, Row
from experiments.bench.runner import MEASURED

HEAD = (
    "# Benchmark\n\n"
    "`python -m experiments.bench [ROW...]`. A ratio is our time by the peer's, the median of "
    "rounds that alternate (least-most): below 1 ours is faster. That of CPU time counts all cores "
    "and suffers less from what else runs. Every side has a process of its own; times are medians "
    "of a call after the warm-up. On the CPU they are in float32, with as many threads as cores. "
    "Ready is the time from the first import to the end of the first call, with compilation "
    "(-: measured before this was told); "
    "memory is the peak of the whole process; temporaries are XLA's; load is the average number of "
    "processes, ours included; the machines stand below. GFLOP/s are those that the network needs, "
    "as XLA counts them, three times as many in training, and of a product of matrices (2048 x "
    "2048, float32, NumPy's BLAS on all cores) between the same rounds: about what the cores give. "
    "-: not measured.\n\n"
)
ON_GPU = (
    "## On a GPU\n\n"
    "Networks compute in bfloat16 and keep float32 parameters; PyTorch by autocast, channels last, "
    "cuDNN's choice by trial and its fused Adam. TFLOP/s are those that the model needs, as XLA "
    "counts them, three times as many in training, and their share of the 989 that the "
    "datasheet gives for dense bfloat16. Memory is the peak that each library had in use. "
    "Sides of several rows start together, so the time until ready is not given.\n\n"
)
COLUMNS = ("row", "ratio", "CPU ratio", "ours", "peer", "ready", "memory, MiB")
COLUMNS += ("temporaries, MiB", "GFLOP/s: ours / peer / product", "load", "machine")
GPU_COLUMNS = ("row", "ratio", "ours", "peer", "TFLOP/s of ours", "memory, MiB", "machine")
# Records keep the class and its fields; readers know these by the name that zoo exports.
EXPORTED = {
    "FCDenseNet103(growth_rate=12, blocks=[4, 4, 4, 4, 4, 4])": "FCDenseNet56()",
    "FCDenseNet103(blocks=[5, 5, 5, 5, 5, 5])": "FCDenseNet67()",
}
PEAK = 989.4  # TFLOP/s of dense bfloat16, NVIDIA's datasheets of the H100 SXM and the H200.


def read(path: pathlib.Path) -> dict[str, Any]:
    """The records by row; {} where there is no file. ValueError where it is no bench.json."""
    if not path.exists():
        return {}
    try:
        records = json.loads(path.read_text("utf-8"))["rows"]
        if not all(isinstance(record["sides"], dict) for record in records.values()):
            raise TypeError("a row without sides")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "move it away, or run in another folder"
        raise ValueError(f"{path} cannot be read ({error!r}); {hint}.") from error
    return records


def merge(path: pathlib.Path, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Puts a row's record into the file, the others left as they are; returns them all."""
    records = {**read(path), name: record}
    write(path, json.dumps({"rows": records}, indent=1) + "\n")
    return records


def write(path: pathlib.Path, text: str) -> None:
    """So that a kill half-way leaves the old file."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, "utf-8")
    os.replace(half, path)


def markdown(rows: Iterable[Row], records: Mapping[str, Any]) -> str:
    """All of bench.md."""
    rows = list(rows)
    on_gpu = [row for row in rows if row.on_gpu]
    on_cpu = [row for row in rows if not row.on_gpu]
    numbers = _machines(rows, records)
    parts = [HEAD + table(on_cpu, records, numbers), ON_GPU + table(on_gpu, records, numbers)]
    return "\n\n".join(parts + machines(rows, records)) + "\n"


def machines(rows: Iterable[Row], records: Mapping[str, Any]) -> list[str]:
    """A line for each machine and day that rows were measured on, with the versions."""
    return [
        f"Machine {number}: {', '.join(key)}: {_versions(records, names)}."
        for number, (key, names) in enumerate(_machines(rows, records).items(), start=1)
    ]


def table(rows: Iterable[Row], records: Mapping, numbers: Mapping | None = None) -> str:
    """A line for every peer of every row, all of the CPU or all of a GPU, under a head.

    Rows without a record are "not run". `numbers` are the machines' that end the lines.
    """
    rows = list(rows)
    numbers = _machines(rows, records) if numbers is None else numbers
    gpu = bool(rows) and rows[0].on_gpu
    columns, cells = (GPU_COLUMNS, _gpu_cells) if gpu else (COLUMNS, _cells)
    lines = [_line(columns), _line(["---"] * len(columns))]
    for row in rows:
        if row.name in records:
            number = str(list(numbers).index(_machine(records[row.name])) + 1)
            lines += [_line([*each, number]) for each in cells(row.name, records[row.name])]
        else:
            empty = [""] * (len(columns) - 2)
            lines.append(_line([_what(row.name, row.what), "not run", *empty]))
    return "\n".join(lines)


def _what(name: str, what: str) -> str:
    for made, exported in EXPORTED.items():
        what = what.replace(made, exported)
    return f"`{name}`: {what}"


def _machine(record: Mapping[str, Any]) -> tuple[str, ...]:
    return record["date"][:10], record["hardware"], f"Python {record['python']}"


def _machines(rows: Iterable[Row], records: Mapping[str, Any]) -> dict[tuple, list[str]]:
    """The names of the rows that each machine measured."""
    found: dict[tuple, list[str]] = {}
    for row in rows:
        if row.name in records:
            found.setdefault(_machine(records[row.name]), []).append(row.name)
    return found


def _cells(name: str, record: Mapping[str, Any]) -> Iterable[list[str]]:
    mine, images = record["sides"][OURS], record["images"]
    for peer, side in record["sides"].items():
        if peer == OURS and len(record["sides"]) > 1:
            continue
        ratio, cpu = (_ratio(record[kind].get(peer, [])) for kind in ("ratios", "cpu_ratios"))
        yield [
            _what(name, record["what"]),
            ratio if side["status"] == MEASURED else side["status"],
            cpu,
            _time(mine, images),
            f"{peer} {_time(side, images)}",
            _both(mine, side, lambda s: f"{s['ready']:.1f} s"),
            _both(mine, side, lambda s: f"{s['peak_rss_mib']:.0f}"),
            _both(mine, {}, lambda s: f"{s['facts']['temporaries_mib']:.1f}").partition(" ")[0],
            _rates(record, mine, side),
            f"{max(record['load'])}",
        ]


def _gpu_cells(name: str, record: Mapping[str, Any]) -> Iterable[list[str]]:
    mine, needed = record["sides"][OURS], ""
    if mine["times"] and "model_gflops" in mine["facts"]:
        rate = mine["facts"]["model_gflops"] / mine["median"] / 1000
        needed = f"{_number(rate, 3)} ({rate / PEAK:.0%})"
    for peer, side in record["sides"].items():
        if peer != OURS:
            yield [
                _what(name, record["what"]),
                _ratio(record["ratios"].get(peer, []))
                or next(s["status"] for s in (side, mine) if s["status"] != MEASURED),
                _time(mine, record["images"]),
                f"{peer} {_time(side, record['images'])}",
                needed,
                _both(mine, side, lambda s: f"{s['device_peak_mib']:.0f}"),
            ]


def _rates(record: Mapping[str, Any], *sides: Mapping[str, Any]) -> str:
    """GFLOP/s of the sides, and of the product of matrices in the same rounds."""
    if (needed := record["sides"][OURS].get("facts", {}).get("model_gflops")) is None:
        return ""
    rates = [needed / side["median"] if side["times"] else None for side in sides]
    products = record.get("product_gflops", [])
    rates.append(statistics.median(products) if products else None)
    return " / ".join("-" if rate is None else _number(rate, 3) for rate in rates)


def _ratio(found: list[float]) -> str:
    return _spread(statistics.median(found), found, 2) if found else ""


def _time(side: Mapping[str, Any], images: int) -> str:
    if not side["times"]:
        return side["status"]
    rate = f", {_number(images / side['median'], 3)} images/s" if images else ""
    scale, unit = (1, "s") if side["median"] >= 1 else (1000, "ms")
    times = [scale * t for t in side["times"]]
    return f"{_spread(scale * side['median'], times, 3)} {unit}{rate}"


def _spread(middle: float, values: list[float], digits: int) -> str:
    middle, least, most = (_number(x, digits) for x in (middle, min(values), max(values)))
    return f"{middle} ({least}-{most})"


def _number(value: float, digits: int) -> str:
    """To so many digits, or whole: 1,090 and not 1.09e+03."""
    return f"{value:,.0f}" if value >= 10**digits - 0.5 else f"{value:.{digits}g}"


def _both(mine: Mapping, other: Mapping, form) -> str:
    """Ours and the peer's; "-" where a side did not get so far."""
    texts = []
    for side in (mine, other):
        try:
            texts.append(form(side))
        except KeyError:
            texts.append("-")
    return " / ".join(texts)


def _versions(records: Mapping[str, Any], names: list[str]) -> str:
    found = {}
    for name in names:
        for side in records[name]["sides"].values():
            for package, version in side.get("versions", {}).items():
                found.setdefault(package, set()).add(version)
    return ", ".join(f"{p} {' and '.join(sorted(v))}" for p, v in sorted(found.items()))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
