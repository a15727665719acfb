"""What a launch runs on and from, and how it is typed again: environment.json of a workdir."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from importlib.metadata import distributions

import jax

from experiments.processes import COMMAND

FILE = "environment.json"
PACKAGES = (
    "vision-zoo", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
    "tensorflow-datasets",
)  # fmt: skip


def record(seed: int | None) -> tuple[str, bytes]:
    """The file and its content, without the user or the host; for `beside` of `loop.train`.

    The seed is None of what has none.
    """
    # None where it runs from a checkout that is not installed.
    versions = {p: next((d.version for d in distributions(name=p)), None) for p in PACKAGES}
    devices = jax.devices()
    kind = {"platform": devices[0].platform, "kind": devices[0].device_kind}
    values = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": json.loads(os.environ.get(COMMAND, "null")) or sys.argv,
        "seed": seed,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "devices": {**kind, "count": len(devices), "processes": jax.process_count()},
    }
    return FILE, (json.dumps(values, indent=2) + "\n").encode()


def _git_commit() -> str | None:
    """The commit of the checkout this is, "-dirty" if changed; None where it is no checkout."""
    root = pathlib.Path(__file__).resolve().parents[1]
    command = ["git", f"--git-dir={root / '.git'}", f"--work-tree={root}", "describe"]
    command += ["--always", "--dirty", "--abbrev=40", "--exclude=*"]  # No tag's name instead.
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None  # No git here, or it hangs: a missing commit must not stop a run.
    return done.stdout.strip()
