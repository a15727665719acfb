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
    "and suffers less from what else runs. Every side has a process of its own on the CPU, in "
    "float32, with as many threads as cores; times are medians of a call after the warm-up, whose "
    "first call (with compilation) stands beside it. Memory is the peak of the whole process; "
    "temporaries are XLA's; load is the average number of processes, ours included; the machines "
    "stand below. A GPU was not measured.\n\n"
)
COLUMNS = ("row", "ratio", "CPU ratio", "ours", "peer", "first call", "memory, MiB")
COLUMNS += ("temporaries, MiB", "load", "machine")


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
    """The table: a line for every peer of every row, and of rows without a record "not run"."""
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    setting: dict[tuple, list[str]] = {}
    for row in rows:
        if row.name not in records:
            lines.append(
                _line([f"`{row.name}`: {row.what}", "not run"] + [""] * (len(COLUMNS) - 2))
            )
            continue
        record = records[row.name]
        key = record["date"][:10], record["hardware"], f"Python {record['python']}"
        setting.setdefault(key, []).append(row.name)
        number = f"{list(setting).index(key) + 1}"
        lines += [_line([*cells, number]) for cells in _cells(row.name, record)]
    told = [
        f"Machine {number}: {', '.join(key)}: {_versions(records, names)}."
        for number, (key, names) in enumerate(setting.items(), start=1)
    ]
    return HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(told) + "\n"


def _cells(name: str, record: Mapping[str, Any]) -> Iterable[list[str]]:
    mine, images = record["sides"][OURS], record["images"]
    for peer, side in record["sides"].items():
        if peer == OURS and len(record["sides"]) > 1:
            continue
        ratio, cpu = (_ratio(record[kind].get(peer, [])) for kind in ("ratios", "cpu_ratios"))
        yield [
            f"`{name}`: {record['what']}",
            ratio if side["status"] == MEASURED else side["status"],
            cpu,
            _time(mine, images),
            f"{peer} {_time(side, images)}",
            _both(mine, side, lambda s: f"{s['first_call']:.1f} s"),
            _both(mine, side, lambda s: f"{s['peak_rss_mib']:.0f}"),
            _both(mine, {}, lambda s: f"{s['facts']['temporaries_mib']:.1f}").partition(" ")[0],
            f"{max(record['load'])}",
        ]


def _ratio(found: list[float]) -> str:
    return _spread(statistics.median(found), found, "{:.2g}") if found else ""


def _time(side: Mapping[str, Any], images: int) -> str:
    if not side["times"]:
        return side["status"]
    rate = f", {images / side['median']:.3g} images/s" if images else ""
    scale, unit = (1, "s") if side["median"] >= 1 else (1000, "ms")
    times = [scale * t for t in side["times"]]
    return f"{_spread(scale * side['median'], times, '{:.3g}')} {unit}{rate}"


def _spread(middle: float, values: list[float], form: str) -> str:
    return " ".join([form.format(middle), f"({form}-{form})".format(min(values), max(values))])


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
