"""What a run tells: metrics.jsonl, TensorBoard, a progress bar or plain lines."""

import contextlib
import datetime
import json
import math
import os
import pathlib
import shutil
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from zoo.data.checks import explained
from zoo.data.images import File, write_atomically

METRICS = "metrics.jsonl"
PLAIN_SECONDS = 10.0  # Without a terminal, lines of training come at least this far apart.


class Log(contextlib.AbstractContextManager):
    """Keeps and shows the numbers of a run of `steps`; `headline` is the score that is shown.

    `workdir` takes metrics.jsonl and tensorboard/, cut back first to `start`, the step the run goes
    on from. Of many processes, 0 writes.
    """

    def __init__(self, workdir: File, *, steps: int, start: int, headline: str):
        # Not SummaryWriter: its thread dies where a disk is full, and then training waits for it.
        from tensorboardX.event_file_writer import EventsWriter  # Imports PyTorch where it is.

        self.steps, self.headline, self.score, self.printed = steps, headline, None, -math.inf
        workdir, writes, self.board = pathlib.Path(workdir), jax.process_index() == 0, None
        if writes:
            (workdir / "tensorboard").mkdir(parents=True, exist_ok=True)
            old = read_metrics(workdir) if (workdir / METRICS).exists() else []
            # No checkpoint: it was killed before the first, or somebody took them away.
            if old and not start and not (workdir / f"{METRICS}.old").exists():
                shutil.copyfile(workdir / METRICS, workdir / f"{METRICS}.old")
            kept = [_line(record).encode() for record in old if record["step"] <= start]
            write_atomically(workdir / METRICS, lambda file: file.writelines(kept))
            self.board = EventsWriter(str(workdir / "tensorboard" / "events"))
        self.file = open(workdir / METRICS if writes else os.devnull, "a", encoding="utf-8")
        self.console = Console(highlight=False, soft_wrap=True, quiet=not writes)
        # A session starts: a killed run may have shown steps that this one takes again.
        self.show(start + 1, session_log={"status": 1})
        columns = BarColumn(), TextColumn("{task.description}", markup=False)
        hidden = not (writes and self.console.is_terminal)
        self.bar = Progress(*columns, console=self.console, refresh_per_second=2, disable=hidden)
        self.task = self.bar.add_task("compiling ...", total=steps, completed=start)
        self.bar.start()
        self.first: tuple[int, float] | None = None  # A step, and when it was logged.

    def __exit__(self, *_) -> None:
        if not self.bar.disable:  # Rich below 14 ends one that was never shown by an empty line.
            self.bar.stop()
        with contextlib.suppress(OSError):  # Each line was flushed; what could not be, was told.
            self.file.close()
        if self.board:
            self.board.close()

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps and shows the training's numbers at a step; `loss` is one of them."""
        self._keep(step, "train", values)
        now = time.monotonic()
        step0, then = self.first = self.first or (step, now)
        parts = [f"step {step}/{self.steps}", f"loss {values['loss']:.4f}"]
        if self.score is not None:
            parts.append(f"{self.headline} {self.score:.4f}")
        if "images_per_second" in values:
            parts.append(f"{values['images_per_second']:.0f} images/s")
        if step > step0:
            left = (now - then) / (step - step0) * (self.steps - step)
            parts.append(f"{datetime.timedelta(seconds=round(left))} left")
        line = "  ".join(parts)
        self.bar.update(self.task, completed=step, description=line)
        if self.bar.disable and (now - self.printed >= PLAIN_SECONDS or step == self.steps):
            self.printed = now
            self.say(line)

    def evaluation(self, step: int, split: str, scores: Mapping[str, Any]) -> None:
        """Keeps the scores of a split, lists for classes too, and shows the headline."""
        self._keep(step, split, scores)
        self.score = float(scores[self.headline])
        self.say(f"step {step}: {self.headline} {self.score:.4f} on {split}")

    def say(self, text: str) -> None:
        """Prints lines for the person who waits, above the bar where there is one."""
        self.console.print(text, markup=False)

    def _keep(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        with explained(f"{self.file.name} cannot be written", "make room for it", OSError):
            self.file.write(_line({"step": step, "split": split, **values}))
            self.file.flush()
        numbers = {k: v for k, v in plain(values).items() if isinstance(v, int | float)}
        shown = [{"tag": f"{split}/{name}", "simple_value": v} for name, v in numbers.items()]
        self.show(step, summary={"value": shown})

    def show(self, step: int, **event: Any) -> None:
        """Writes an event for TensorBoard, while that is possible."""
        from tensorboardX.proto.event_pb2 import Event

        if self.board:
            try:
                self.board.write_event(Event(wall_time=time.time(), step=step, **event))
                self.board.flush()
            except OSError as error:
                with contextlib.suppress(OSError):
                    self.board.close()
                self.board = None
                self.say(f"Warning: no more is written for TensorBoard ({error}).")


def _line(record: Mapping[str, Any]) -> str:
    """A record as a line of metrics.jsonl."""
    return json.dumps(plain(record), allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Numbers, arrays, lists and dicts as strict JSON has them: nan and infinity are null."""
    value = value if isinstance(value, list | tuple) else np.asarray(value).tolist()
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(workdir: File) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, oldest first, with nan where the file has null.

    A last line still being written is left out; ValueError for a whole line that is no record.
    """
    path, records = pathlib.Path(workdir) / METRICS, []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # Only the last one can lack its end: the process was killed.
        problem = f"{path}, line {number} is no record"
        with explained(problem, "delete that line to go on", (ValueError, KeyError, TypeError)):
            record = json.loads(line)
            if not (isinstance(record["step"], int) and isinstance(record["split"], str)):
                raise TypeError("its step is no integer, or its split no string")
        records.append({name: _number(value) for name, value in record.items()})
    return records


def _number(value: Any) -> Any:
    """The inverse of `plain`: null is nan."""
    if isinstance(value, list):
        return [_number(v) for v in value]
    return math.nan if value is None else value
