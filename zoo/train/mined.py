"""Training rows that the network itself chooses every so many steps; a resume finds them again.

A checkpoint holds no rows. They are chosen from the state at a renewal and kept in the workdir,
`mined/STEP.npz`; a run that goes on between two renewals reads the file of the one before.
"""

import io
import pathlib
from collections.abc import Mapping

import numpy as np

from zoo.data.images import write_atomically
from zoo.train.run import Run
from zoo.train.state import TrainState


def mined(
    run: Run, workdir: pathlib.Path, step: int, state: TrainState
) -> Mapping[str, np.ndarray] | None:
    """What the task mined at the last renewal before or at `step`, the steps taken so far.

    Every process mines the same; of many, each writes the same file. Raises ValueError where the
    file of a renewal that has passed is missing or damaged.
    """
    if not run.task.renew_every:
        return None
    renewal = step - step % run.task.renew_every
    path = workdir / "mined" / f"{renewal:08d}.npz"
    if renewal == step:
        rows = run.task.mine(run, state.variables(), seed=(run.experiment.seed, step))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **rows)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, buffer.getvalue())
        return rows
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path}, the training rows mined at step {renewal}, cannot be read ({error}); the run "
            f"cannot go on as it was: restore the file, or start in another --workdir."
        ) from error
