"""What a run tells: metrics.jsonl, TensorBoard, a progress bar or plain lines, environment.json."""

import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import rich.console
import rich.progress
from tensorboardX import SummaryWriter

from zoo.data.images import write_atomically

METRICS = "metrics.jsonl"
PLAIN_SECONDS = 10.0  # Without a terminal, lines of training come at least this far apart.
PACKAGES = (
    "vision-zoo", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
    "tensorflow-datasets",
)  # fmt: skip


class Log(contextlib.AbstractContextManager):
    """Keeps and shows the numbers of a run. Of many processes, 0 writes.

    Args:
        workdir: takes metrics.jsonl and tensorboard/, cut back to `start` first.
        steps: of the whole run.
        start: the step the run goes on from; 0 for a new one.
        headline: the score that is shown.
    """

    def __init__(self, workdir: str | os.PathLike, *, steps: int, start: int, headline: str):
        self.steps, self.headline, self.score = steps, headline, None
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        _truncate(workdir / METRICS, start)
        self.file = (workdir / METRICS).open("a", encoding="utf-8")
        # A killed run may have shown steps that this one takes again.
        self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)
        self.console = rich.console.Console(highlight=False, soft_wrap=True)
        words = rich.progress.TextColumn("{task.description}", markup=False)
        self.bar = rich.progress.Progress(
            rich.progress.BarColumn(), words, console=self.console, refresh_per_second=2
        )
        self.task = self.bar.add_task("compiling ...", total=steps, completed=start)
        if self.console.is_terminal:
            self.bar.start()
        self.first: tuple[int, float] | None = None  # A step, and when it was logged.
        self.printed = -math.inf

    def __exit__(self, *_) -> None:
        if self.writes:
            if self.console.is_terminal:
                self.bar.stop()
            self.file.close()
            self.board.close()

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps and shows the training's numbers at a step; `loss` is one of them."""
        if not self.writes:
            return
        self._keep(step, "train", values)
        now = time.monotonic()
        self.first = self.first or (step, now)
        line = self._line(step, values, now)
        if self.console.is_terminal:
            self.bar.update(self.task, completed=step, description=line)
        elif now - self.printed >= PLAIN_SECONDS or step == self.steps:
            self.printed = now
            self.say(line)

    def evaluation(self, step: int, split: str, scores: Mapping[str, Any]) -> None:
        """Keeps the scores of a split, lists for classes too, and shows the headline."""
        if not self.writes:
            return
        self._keep(step, split, scores)
        self.score = float(scores[self.headline])
        self.say(f"step {step}: {self.headline} {self.score:.4f} on {split}")

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Puts pictures, uint8 [h, w, 3], into TensorBoard."""
        if self.writes:
            for name, image in images.items():
                self.board.add_image(name, image, step, dataformats="HWC")

    def say(self, text: str) -> None:
        """Prints lines for the person who waits, above the bar where there is one."""
        if self.writes:
            self.console.print(text, markup=False)

    def _keep(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        plain = {name: _plain(value) for name, value in values.items()}
        record = json.dumps({"step": step, "split": split, **plain}, allow_nan=False)
        self.file.write(record + "\n")
        self.file.flush()
        for name, value in plain.items():
            if isinstance(value, int | float):
                self.board.add_scalar(f"{split}/{name}", value, step)

    def _line(self, step: int, values: Mapping[str, float], now: float) -> str:
        parts = [f"step {step}/{self.steps}", f"loss {values['loss']:.4f}"]
        if self.score is not None:
            parts.append(f"{self.headline} {self.score:.4f}")
        if "images_per_second" in values:
            parts.append(f"{values['images_per_second']:.0f} images/s")
        step0, then = self.first
        if step > step0:
            left = (now - then) / (step - step0) * (self.steps - step)
            parts.append(f"{datetime.timedelta(seconds=round(left))} left")
        return "  ".join(parts)


def _plain(value: Any) -> Any:
    """Numbers, arrays and lists of them as strict JSON has them: nan and infinity are null."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, oldest first, with nan where the file has null.

    A last line still being written is left out; ValueError for a whole line that is no record.
    """
    return [record for record, _ in _records(pathlib.Path(workdir) / METRICS)]


def _truncate(path: pathlib.Path, step: int) -> None:
    """Drops a half line at the end and every record after `step`, in one move or not at all."""
    if path.exists():
        kept = (line for record, line in _records(path) if record["step"] <= step)
        write_atomically(path, b"".join(kept))


def _records(path: pathlib.Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each whole line, parsed and as it stands."""
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return  # Only the last one can lack its end: the process was killed.
        try:
            record = json.loads(line)
            if not (isinstance(record["step"], int) and isinstance(record["split"], str)):
                raise TypeError("its step is no integer, or its split no string")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number} is no record ({error}); delete that line to go on."
            ) from error
        yield {name: _number(value) for name, value in record.items()}, line


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(v) for v in value]
    return math.nan if value is None else value


def write_environment(workdir: str | os.PathLike, seed: int) -> None:
    """Writes environment.json into a workdir: what this launch ran on and from, no user or host."""
    devices = jax.devices()
    values = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": seed,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in PACKAGES},
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
        },
    }
    text = json.dumps(values, indent=2) + "\n"
    write_atomically(pathlib.Path(workdir) / "environment.json", text.encode())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # Run from a checkout that is not installed.


def _git_commit() -> str | None:
    """The commit of the checkout this is, "-dirty" if changed; None where it is no checkout."""
    root = pathlib.Path(__file__).resolve().parents[2]
    command = ["git", f"--git-dir={root / '.git'}", f"--work-tree={root}", "describe"]
    command += ["--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None  # No git here, or it hangs: a missing commit must not stop a run.
    return done.stdout.strip()
