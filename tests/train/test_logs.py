"""Logs read back with `json` and with the event format's own protobuf, not with our code."""

import json
import pathlib
import struct
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from zoo.train import logs
from zoo.train.logs import Log


def records(workdir):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def events(workdir):
    """Of TFRecord files: a length, its checksum, the event, its checksum."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def open_log(workdir, *, steps=10, start=0):
    return Log(workdir, steps=steps, start=start, headline="mean_iou")


def test_records_are_strict_json_one_a_line(tmp_path):
    with open_log(tmp_path) as log:
        log.train(2, {"loss": np.float32(0.5), "learning_rate": 1e-3})
        # Flushed: another process sees it at once.
        assert records(tmp_path) == [
            {"step": 2, "split": "train", "loss": 0.5, "learning_rate": 1e-3}
        ]
        log.train(4, {"loss": float("inf")})
        log.evaluation(
            4, "validation", {"mean_iou": jnp.float32(0.25), "iou": [0.5, np.nan], "n": np.int64(3)}
        )
    assert records(tmp_path)[1:] == [
        {"step": 4, "split": "train", "loss": None},
        {"step": 4, "split": "validation", "mean_iou": 0.25, "iou": [0.5, None], "n": 3},
    ]
    got = logs.read_metrics(tmp_path)
    assert np.isnan(got[1]["loss"])
    np.testing.assert_array_equal(got[2]["iou"], [0.5, np.nan])


def test_plain_takes_what_is_nested():
    """Beside one another stay numbers and words, and lists of unequal lengths."""
    value = {"a": [{"b": np.float32("nan")}, ["x", 1, 2.5]], "c": (np.arange(2), -np.inf)}
    want = {"a": [{"b": None}, ["x", 1, 2.5]], "c": [[0, 1], None]}
    assert logs.plain(value) == want
    assert [type(v) for v in logs.plain([1, 2.5, True])] == [int, float, bool]


def test_tensorboard_gets_scalars(tmp_path):
    with open_log(tmp_path) as log:
        log.train(2, {"loss": 0.5})
        log.evaluation(2, "validation", {"mean_iou": 0.25, "iou": [0.5, 0.0]})
    values = {v.tag: (e.step, v) for e in events(tmp_path) for v in e.summary.value}
    assert set(values) == {"train/loss", "validation/mean_iou"}
    assert (values["train/loss"][0], values["train/loss"][1].simple_value) == (2, 0.5)
    assert values["validation/mean_iou"][1].simple_value == 0.25


def test_tensorboard_forgets_what_a_killed_run_showed(tmp_path):
    with open_log(tmp_path, start=3):
        pass
    (start,) = (e for e in events(tmp_path) if e.HasField("session_log"))
    assert start.step == 4 and start.session_log.status == SessionLog.START


def test_a_full_disk_ends_tensorboard_alone(tmp_path, monkeypatch, capsys):
    """SummaryWriter's thread dies of it, and training waited for the thread for ever."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with open_log(tmp_path, steps=50) as log:
        monkeypatch.setattr(EventsWriter, "write_event", full)
        for step in range(1, 51):
            log.train(step, {"loss": 1.0})
    assert len(records(tmp_path)) == 50
    assert capsys.readouterr().out.count("no more is written for TensorBoard ([Errno 28]") == 1


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="Linux alone has a full device")
def test_a_full_disk_is_told_with_the_file(tmp_path):
    with pytest.raises(
        ValueError, match="/dev/full cannot be written .*No space.*make room for it"
    ):
        with open_log(tmp_path) as log:
            log.file.close()
            log.file = open("/dev/full", "a", encoding="utf-8")
            log.train(1, {"loss": 1.0})


def test_a_resume_drops_a_half_line_and_what_lies_after_its_step(tmp_path):
    with open_log(tmp_path) as log:
        for step in (2, 4, 6):
            log.train(step, {"loss": 1.0})
        log.evaluation(4, "test", {"mean_iou": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "spl')
    assert len(logs.read_metrics(tmp_path)) == 4
    with open_log(tmp_path, start=4) as log:
        log.train(6, {"loss": 2.0})
    steps = [(r["step"], r["split"], r.get("loss")) for r in records(tmp_path)]
    assert steps == [(2, "train", 1.0), (4, "train", 1.0), (4, "test", None), (6, "train", 2.0)]
    assert [p.name for p in tmp_path.glob("*.tmp")] == []
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with open_log(tmp_path, start=0):  # Of a run whose checkpoints somebody took away.
        pass
    assert records(tmp_path) == [] and (tmp_path / "metrics.jsonl.old").read_bytes() == before


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"step": 1}', '{"step": "1", "split": "a"}'])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    text = f'{{"step": 1, "split": "train"}}\n{line}\n'
    path.write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        open_log(tmp_path)
    assert path.read_text() == text


def test_lines_are_plain_and_few_without_a_terminal(tmp_path, capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))  # Four seconds a log: every third one is shown.
    monkeypatch.setattr(
        logs, "time", types.SimpleNamespace(monotonic=lambda: float(next(clock)), time=time.time)
    )
    with open_log(tmp_path, steps=100) as log:
        for step in range(10, 101, 10):
            log.train(step, {"loss": 0.5, "images_per_second": 211.7})
            if step == 20:
                log.evaluation(step, "validation", {"mean_iou": 0.25})
        log.say("[all] in /a/b " + "x" * 200)
    assert capsys.readouterr().out.splitlines() == [
        "step 10/100  loss 0.5000  212 images/s",
        "step 20: mean_iou 0.2500 on validation",
        "step 40/100  loss 0.5000  mean_iou 0.2500  212 images/s  0:00:24 left",
        "step 70/100  loss 0.5000  mean_iou 0.2500  212 images/s  0:00:12 left",
        "step 100/100  loss 0.5000  mean_iou 0.2500  212 images/s  0:00:00 left",
        "[all] in /a/b " + "x" * 200,
    ]


def test_a_terminal_gets_a_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with open_log(tmp_path) as log:
        log.train(5, {"loss": 0.125})
        log.say("saved")
    out = capsys.readouterr().out
    assert "━" in out
    assert "step 5/10  loss 0.1250" in out
    assert "saved" in out


def test_other_processes_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with open_log(tmp_path / "run") as log:
        log.train(1, {"loss": 1.0})
        log.evaluation(1, "test", {"mean_iou": 0.5})
        log.say("hello")
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_importing_logs_imports_no_tensorflow():
    program = "import sys, zoo.train.logs; print('tensorflow' in sys.modules)"
    root = pathlib.Path(logs.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "False", done.stderr
