import dataclasses
import json
import os
import pathlib
import platform
import sys

import numpy as np
import pytest

from experiments.bench import gpu, runner
from experiments.bench.__main__ import chosen, every, main
from experiments.bench.row import OURS, Row, Side, model_gflops
from experiments.bench.table import markdown, merge, read, table

# Sides that note their calls in a file, die, or meet a limit.
MODULE = """
import os, time
from experiments.bench.row import Case

def noting(*, path, name, dies_at=None, gflops=None):
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
    return Case(call, {"temporaries_mib": 3.0} | ({"model_gflops": gflops} if gflops else {}))

def waits():
    time.sleep(60)

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
    text = markdown([Row("a/b", "work", sides), Row("c/d", "other work", {})], {"a/b": record})
    lines = [line for line in text.splitlines() if line.startswith("| `")]
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
    mine |= {"ready": 2.5, "peak_rss_mib": 99.6, "facts": {"temporaries_mib": 1.25}}
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
    sides = {OURS: Side("m:f", {}, ()), "peer": Side("m:f", {}, ())}
    rows = [Row(name, "work", sides) for name in ("a/b", "c/d")]
    text = markdown(rows, {"a/b": record(0.125)})
    assert (
        "| `a/b`: work | 0.25 (0.25-0.25) |  | 125 (125-125) ms, 64 images/s | "
        "peer 500 (500-500) ms, 16 images/s | 2.5 s / 2.5 s | 100 / 100 | 1.2 |  | 0.4 | 1 |"
    ) in text
    assert "| `c/d`: work | not run |" in text
    assert text.endswith("\nMachine 1: 2026-11-25, cpu, Python 3: jax 1, torch 2.\n")


def test_rates_of_computation_by_hand():
    sides = {OURS: Side("m:f", {}, ()), "peer": Side("m:f", {}, ())}
    kept = record(0.25)
    kept["sides"][OURS]["facts"]["model_gflops"] = 10.0
    assert "| 1.2 | 40 / 20 / - | 0.4 |" in table([Row("a/b", "", sides)], {"a/b": kept})
    kept["product_gflops"] = [80.0, 150.4, 99.0]
    assert "| 1.2 | 40 / 20 / 99 | 0.4 |" in table([Row("a/b", "", sides)], {"a/b": kept})
    kept["sides"]["peer"] |= {"status": "no memory", "times": []}
    assert "| 40 / - / 99 | 0.4 |" in table([Row("a/b", "", sides)], {"a/b": kept})


def test_the_product_of_matrices_is_timed_between_the_rounds(side, monkeypatch):
    monkeypatch.setattr(runner, "product_gflops", iter([3.0, 5.0]).__next__)
    needs = side("x", gflops=9.0)
    record = runner.measure(Row("a/b", "work", {OURS: needs, "peer": side("y")}), 2)
    assert record["product_gflops"] == [3.0, 5.0]
    assert "product_gflops" not in runner.measure(Row("a/b", "work", {OURS: side("x")}), 1)


def test_the_product_of_matrices_counts_its_operations(monkeypatch):
    # Each of three takes 1/4 s by this clock: 2 * 8^3 operations in it.
    monkeypatch.setattr(runner.time, "perf_counter", iter([0, 0.25, 1, 1.25, 2, 2.25]).__next__)
    assert runner.product_gflops(8) == 2 * 8**3 / 0.25 / 1e9


def test_processors_of_one_name_are_told_apart(monkeypatch):
    told = "model name\t: AMD EPYC\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: other\n"
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path: told)
    assert runner.hardware().startswith("AMD EPYC (family 25, model 17), ")
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path: "CPU part\t: 0xd40\n")
    assert runner.hardware().startswith(f"{platform.machine()}, ")


def test_large_numbers_have_no_exponent_and_networks_their_exported_names():
    sides = {OURS: Side("m:f", {}, ()), "peer": Side("m:f", {}, ())}
    kept = record(0.9984) | {"images": 7876, "ratios": {"peer": [99.4, 99.6, 120.0]}}
    kept["sides"][OURS]["times"] = [0.987, 1.0904]
    kept["what"] = "FCDenseNet103(growth_rate=12, blocks=[4, 4, 4, 4, 4, 4]), 4 px"
    text = table([Row("a/b", "work", sides)], {"a/b": kept})
    assert "`a/b`: FCDenseNet56(), 4 px | 100 (99-120) |" in text
    assert "| 998 (987-1,090) ms, 7,889 images/s |" in text and "e+" not in text
    five = Row("c/d", "FCDenseNet103(blocks=[5, 5, 5, 5, 5, 5]), 4 px", sides)
    assert "`c/d`: FCDenseNet67(), 4 px | not run" in table([five], {})


def test_table_of_a_gpu_by_hand():
    sides = {name: Side("m:f", {}, (), gpu=True) for name in (OURS, "peer", "late")}
    kept = record(0.125)
    kept["sides"][OURS] |= {"facts": {"model_gflops": 24_735.0}, "device_peak_mib": 10.4}
    kept["sides"]["late"] = {"status": "not ready in 9 s", "times": []}
    lines = table([Row("gpu/a", "work", sides)], {"gpu/a": kept}).splitlines()
    # 24.735 TFLOP in an eighth of a second are 197.88 a second, a fifth of 989.4.
    assert lines[2:] == [
        "| `gpu/a`: work | 0.25 (0.25-0.25) | 125 (125-125) ms, 64 images/s | "
        "peer 500 (500-500) ms, 16 images/s | 198 (20%) | 10 / - | 1 |",
        "| `gpu/a`: work | not ready in 9 s | 125 (125-125) ms, 64 images/s | "
        "late not ready in 9 s | 198 (20%) | 10 / - | 1 |",
    ]
    kept["sides"][OURS] = {**kept["sides"]["late"]}
    kept["ratios"] = {}
    assert "| not ready in 9 s | not ready in 9 s | peer 500" in table(
        [Row("gpu/a", "work", sides)], {"gpu/a": kept}
    )


def test_rows_of_a_gpu_warm_up_together_and_are_timed_one_by_one(side, tmp_path, monkeypatch):
    class OnGpu(Row):
        on_gpu = True

    monkeypatch.setattr(runner, "gpus", lambda: ("a GPU",))
    rows = [
        OnGpu("gpu/a", "", {OURS: side("x"), "peer": side("y")}),
        Row("cpu", "", {OURS: side("u"), "peer": side("v")}),
        OnGpu("gpu/b", "", {OURS: side("z"), "peer": side("w")}),
    ]
    found = {row.name: record for row, record in runner.measure_all(rows, 2)}
    assert list(found) == ["cpu", "gpu/a", "gpu/b"]
    calls = (tmp_path / "calls").read_text().split()
    assert calls[:8] == "u u v v u v v u".split()
    assert sorted(calls[8:16]) == sorted("xxyyzzww") and calls[16:] == "x y y x z w w z".split()
    assert found["gpu/b"]["hardware"] == f"a GPU, {found['cpu']['hardware']}"
    assert all(len(r["ratios"]["peer"]) == 2 for r in found.values())


def test_a_side_that_is_never_ready_is_ended(side):
    record = runner.measure(Row("a", "", {OURS: side("x"), "peer": side("y", "waits")}), 1, 5)
    status = {name: found["status"] for name, found in record["sides"].items()}
    assert status == {OURS: "measured", "peer": "not ready in 5 s"}


def test_rows_of_a_gpu_are_left_as_they_are_without_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.bench.__main__.gpus", lambda: ())
    merge(pathlib.Path("bench.json"), "gpu/unet/train", record(0.5))
    monkeypatch.setattr(sys, "argv", ["bench", "gpu"])
    main()
    assert f"no NVIDIA GPU here: {len(gpu.rows(quick=False))} rows" in capsys.readouterr().err
    assert read(pathlib.Path("bench.json")) == {"gpu/unet/train": record(0.5)}
    monkeypatch.setattr(runner, "gpus", lambda: ())
    assert runner.Child(gpu.rows(quick=True)[0].sides[OURS]).status == "not run (no GPU)"


def test_flops_of_a_product_by_hand():
    a, b = np.ones((20, 30), np.float32), np.ones((30, 40), np.float32)
    assert model_gflops(lambda a, b: a @ b, a, b) == pytest.approx(2 * 20 * 30 * 40 / 1e9)


def test_rows_of_two_machines_are_told_apart():
    sides = {OURS: Side("m:f", {}, ()), "peer": Side("m:f", {}, ())}
    rows = [Row(name, "work", sides) for name in ("a/b", "c/d", "e/f")]
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
    text = pathlib.Path("bench.md").read_text()
    assert text.index("| `a/b`: work |") < text.index("| `c/d`: work |")
    told = capsys.readouterr().out
    assert told.count("| `a/b`: work |") == 2
    assert f"Python {platform.python_version()}: numpy " in text
    assert told.count(f"Python {platform.python_version()}: numpy ") == 2  # --quick tells, too.
