import dataclasses
import json
import os
import pathlib
import platform
import sys

import pytest

from experiments.bench import runner
from experiments.bench.__main__ import chosen, every, main
from experiments.bench.row import OURS, Row, Side
from experiments.bench.table import markdown, merge, read

# Sides that note their calls in a file, die, or meet a limit.
MODULE = """
import os, time
from experiments.bench.row import Case

def noting(*, path, name, dies_at=None):
    calls = 0
    def call():
        nonlocal calls
        calls += 1
        with open(path, "a") as file:
            file.write(name + " ")
        if calls == dies_at:
            raise RuntimeError("the reason why")
        time.sleep(0.2)
        start = time.process_time()
        while time.process_time() - start < 0.05:
            pass
        return 7.0
    print("a library prints")
    return Case(call, {"temporaries_mib": 3.0})

def greedy():
    bytearray(64 * 2**30)
"""


@pytest.fixture
def side(tmp_path, monkeypatch):
    (tmp_path / "sides.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(name, make="noting", packages=("numpy",), **options):
        if make == "noting":
            options |= {"path": str(tmp_path / "calls"), "name": name}
        limit = 8 if make == "greedy" else None
        return Side(f"sides:{make}", options, packages, limit_gib=limit)

    return make


def test_rounds_alternate_between_processes(side, tmp_path):
    row = Row("a/b", "work", {OURS: side("x"), "peer": side("y")}, images=2)
    record = runner.measure(row, 3)
    # Two calls each to warm up; the order turns round, so that neither always follows.
    assert (tmp_path / "calls").read_text().split() == "x x y y x y y x x y".split()
    for found in record["sides"].values():
        assert found["status"] == "measured" and found["value"] == 7.0
        assert len(found["times"]) == 3 and min(found["times"]) >= 0.25
        assert found["median"] == sorted(found["times"])[1]
        assert len(found["cpu"]) == 3 and 0.02 < min(found["cpu"]) < 0.2  # Sleep is not counted.
        assert found["versions"] == {"numpy": __import__("numpy").__version__}
        # A bare interpreter with NumPy: not the memory of this process, which started it.
        assert 5 < found["peak_rss_mib"] < 150
    for ratio, kind in (("ratios", "times"), ("cpu_ratios", "cpu")):
        mine, other = (record["sides"][name][kind] for name in (OURS, "peer"))
        assert record[ratio] == {"peer": [a / b for a, b in zip(mine, other, strict=True)]}


def test_the_others_go_on_without_a_side(side):
    sides = {
        OURS: side("x"),
        "absent": side("y", packages=("no_such_package",)),
        "at once": side("z", dies_at=1),
        "later": side("w", dies_at=3),
        "large": side("v", "greedy"),
    }
    record = runner.measure(Row("a/b", "work", sides), 2)
    status = {name: found["status"] for name, found in record["sides"].items()}
    assert status == {
        OURS: "measured",
        "absent": "peer not installed (no_such_package)",
        "at once": "died (exit code 1: RuntimeError: the reason why)",
        "later": "died (exit code 1: RuntimeError: the reason why)",
        "large": "out of memory (8 GiB of address space)",
    }
    assert len(record["sides"][OURS]["times"]) == 2
    table = markdown([Row("a/b", "work", sides), Row("c/d", "other work", {})], {"a/b": record})
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(lines) == len(sides)  # One a peer, and the row without a record.
    for line, word in zip(
        lines, ["not installed", "reason", "reason", "GiB of address", "| not run |"], strict=True
    ):
        assert word in line


def test_a_missing_program_is_told(side):
    needy = dataclasses.replace(side("y"), tool="no-such-compiler")
    record = runner.measure(Row("a/b", "work", {OURS: side("x"), "peer": needy}), 1)
    assert record["sides"]["peer"]["status"] == "not run (no no-such-compiler)"


def record(seconds):
    mine = {"status": "measured", "times": [seconds], "median": seconds, "versions": {"jax": "1"}}
    mine |= {"first_call": 2.5, "peak_rss_mib": 99.6, "facts": {"temporaries_mib": 1.25}}
    peer = {**mine, "times": [0.5], "median": 0.5, "versions": {"torch": "2"}, "facts": {}}
    told = {"what": "work", "images": 8, "date": "2026-11-25T20:00+00:00", "hardware": "cpu"}
    told |= {"python": "3", "load": [0.1, 0.4], "repeats": 1}
    return {
        **told,
        "sides": {OURS: mine, "peer": peer},
        "ratios": {"peer": [seconds / 0.5]},
        "cpu_ratios": {},
    }


def test_merging_loses_no_row(tmp_path):
    path = tmp_path / "bench.json"
    merge(path, "a", record(0.25))
    merge(path, "b", record(0.5))
    assert merge(path, "a", record(0.125)) == read(path) == {"a": record(0.125), "b": record(0.5)}
    assert os.listdir(tmp_path) == ["bench.json"]


def test_table_by_hand():
    rows = [Row(name, "work", {OURS: None, "peer": None}) for name in ("a/b", "c/d")]
    text = markdown(rows, {"a/b": record(0.125)})
    assert (
        "| `a/b`: work | 0.25 (0.25-0.25) |  | 125 (125-125) ms, 64 images/s | "
        "peer 500 (500-500) ms, 16 images/s | 2.5 s / 2.5 s | 100 / 100 | 1.2 | 0.4 | 1 |"
    ) in text
    assert "| `c/d`: work | not run |" in text
    assert text.endswith("\nMachine 1: 2026-11-25, cpu, Python 3: jax 1, torch 2.\n")


def test_rows_of_two_machines_are_told_apart():
    rows = [Row(name, "work", {OURS: None, "peer": None}) for name in ("a/b", "c/d", "e/f")]
    other = {**record(0.5), "hardware": "another"}
    text = markdown(rows, {"a/b": record(0.25), "c/d": other, "e/f": record(0.125)})
    ends = [line.split(" | ")[-1] for line in text.splitlines() if line.startswith("| `")]
    assert ends == ["1 |", "2 |", "1 |"]
    assert "Machine 2: 2026-11-25, another, Python 3" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["unett"], "no row 'unett'"),
        (["--repeats", "0"], "--repeats must be at least 1; got 0"),
        ([], "bench.json cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_harms_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if not arguments:
        pathlib.Path("bench.json").write_text('{"rows": 3}')
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and words in error and error.count("\n") == 1
    if not arguments:
        assert pathlib.Path("bench.json").read_text() == '{"rows": 3}'


def test_rows_are_chosen_by_name_or_beginning():
    rows = every()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert [row.name for row in chosen(rows, ["unet/train", "unet"])][:2] == [
        "unet/train",
        "unet/train_compiled",
    ]
    assert all(row.name.startswith("unet/") for row in chosen(rows, ["unet"]))
    assert chosen(rows, []) == rows
    for row in rows:
        assert next(iter(row.sides)) == OURS and len(row.sides) > 1
        json.dumps([dataclasses.asdict(side) for side in row.sides.values()])


def test_a_run_writes_both_files_and_keeps_former_rows(side, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    merge(pathlib.Path("bench.json"), "c/d", record(0.5))
    rows = [Row("a/b", "work", {OURS: side("x"), "peer": side("y")}), Row("c/d", "", {})]
    monkeypatch.setattr("experiments.bench.__main__.every", lambda quick: rows)
    monkeypatch.setattr(sys, "argv", ["bench", "a/b", "--repeats", "1", "--quick"])
    main()
    assert list(read(pathlib.Path("bench.json"))) == ["c/d"]  # --quick writes nothing.
    monkeypatch.setattr(sys, "argv", ["bench", "a/b", "--repeats", "1"])
    main()
    kept = read(pathlib.Path("bench.json"))
    assert kept["c/d"] == record(0.5) and len(kept["a/b"]["sides"]["peer"]["times"]) == 1
    table = pathlib.Path("bench.md").read_text()
    assert table.index("| `a/b`: work |") < table.index("| `c/d`: work |")
    *_, told = capsys.readouterr().out.rpartition("| `a/b`: work |")
    assert told and f"Python {platform.python_version()}: numpy " in told
