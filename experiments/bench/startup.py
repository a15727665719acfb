"""What a user waits for: the import, and the first training step with and without a cache.

A call starts a process and waits for its end. The first step is that of `unet_small`: import,
initial weights, compilation and two steps, with what the compiler left of last time, or nothing.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile

from experiments.bench import segmentation
from experiments.bench.peers import load_torchvision
from experiments.bench.row import OURS, Case, Row, Side

PEER = "segmentation_models_pytorch"


def rows(*, quick: bool) -> list[Row]:
    here = __name__
    # Not `zoo` alone, which loads nothing before it is asked for.
    ours = "zoo.models, zoo.losses, zoo.metrics"
    sides = {
        OURS: Side(f"{here}:imports", {"module": ours}, ("zoo",)),
        PEER: Side(f"{here}:imports", {"module": PEER}, (PEER,)),
    }
    found = [Row("startup/import", f"import {ours}; import {PEER}", sides)]
    train = {row.name: row for row in segmentation.rows(quick=quick)}
    row = train["unet_small/train"]
    compiled = train["unet_small/train_compiled"].sides["torch.compile"]
    for warm in (False, True):
        sides = {
            name: dataclasses.replace(
                side,
                make=f"{here}:first_step",
                options={"side": dataclasses.asdict(side), "warm": warm},
            )
            for name, side in {**row.sides, "torch.compile": compiled}.items()
        }
        what = f"first steps of {row.what}, {'warm' if warm else 'no'} cache"
        found.append(Row(f"startup/{'warm' if warm else 'cold'}", what, sides))
    return found


def imports(*, module: str) -> Case:
    code = f"import {module}"
    if subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode:
        # Taken along: beside the import of torch, which comes first, it takes no time.
        declare = "from experiments.bench.peers import declare_operators; declare_operators()"
        code = f"{declare}; {code}"
        load_torchvision()  # Here too, where its version is asked for.

    def call() -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    return Case(call)


def first_step(*, side: dict, warm: bool) -> Case:
    folder = tempfile.TemporaryDirectory()
    command = [sys.executable, "-m", "experiments.bench.child", json.dumps(side)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}

    def call() -> None:
        cache = folder.name if warm else tempfile.mkdtemp(dir=folder.name)
        caches = {"JAX_COMPILATION_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
        caches["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        subprocess.run(command, env={**os.environ, **caches}, check=True, **quiet)

    return Case(call)
