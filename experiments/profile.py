"""A trace of a few steps of a run, for TensorBoard's profiler: where the time goes."""

import contextlib
import os
import shlex
import sys

import jax

from zoo.train.state import TrainState

FIRST, LAST = 10, 15  # Steps of the launch: compilation, and the first reading of data, are past.


class Trace(contextlib.AbstractContextManager):
    """Writes steps FIRST..LAST into `folder`/plugins/profile; called after each step.

    Does nothing unless `asked`. Of many processes, 0 writes what it and its devices do.
    """

    def __init__(self, folder: str | os.PathLike, *, asked: bool):
        self.folder, self.written = str(folder), False
        self.writes = asked and jax.process_index() == 0
        self.open = contextlib.ExitStack()  # What is traced, and the step in it.

    def __call__(self, count: int, state: TrainState) -> None:
        """After the launch's `count`-th step, which left `state`."""
        if not (self.writes and FIRST - 1 <= count <= LAST):
            return
        if count == FIRST - 1:
            jax.block_until_ready(state)  # Steps are dispatched ahead of the devices.
            jax.profiler.start_trace(self.folder)
            self.open.callback(jax.profiler.stop_trace)
        else:
            self.step.__exit__(None, None, None)
        if count == LAST:
            jax.block_until_ready(state)
            self.open.close()
            self.written = True
            command = (
                f"pip install tensorboard xprof; tensorboard --logdir {shlex.quote(self.folder)}"
            )
            print(f"Steps {FIRST}-{LAST} are traced: {command}")
            return
        self.step = jax.profiler.StepTraceAnnotation("train", step_num=count + 1)
        self.step.__enter__()

    def __exit__(self, *_) -> None:
        self.open.close()
        if self.writes and not self.written:
            print(f"No whole trace: --profile needs {LAST} steps in one launch.", file=sys.stderr)
