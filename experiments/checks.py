"""The two checks before a long run: look at what would happen, and over-fit a handful.

Both write nothing but the prepared data. They are the first steps of Karpathy's "A Recipe for
Training Neural Networks" (2019): verify the loss at initialisation, overfit one batch.
"""

import json
from collections.abc import Callable

import jax
import numpy as np

from zoo.data.augment import Augment
from zoo.data.images import File
from zoo.losses import mean
from zoo.train import config, fields, loop
from zoo.train.config import Experiment
from zoo.train.parallel import Layout
from zoo.train.run import Run
from zoo.train.step import apply_loss

OVERFITTED = 0.05  # Of the loss of a network that knows nothing; below counts as zero.


def dry_run(
    name: str, experiment: Experiment, workdir: File, layout: Layout, make_run: Callable = Run
) -> list[str]:
    """Lines that describe what a launch would do; ValueError for whatever would stop its start."""
    run, state, origin = loop.prepare(name, experiment, workdir, layout, make_run)
    validation = run.source(experiment.data.validation_split)
    batch = run.train_items()[0]
    examples, size, steps = len(run.train_source), experiment.data.batch_size, experiment.steps
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    epochs = f"{steps * size / examples:.1f} epochs of {examples / size:.1f} steps"
    devices = f"{layout.count} {jax.default_backend()} device(s) by {layout.how}"
    shapes = ", ".join(f"{k} {x.dtype}{list(x.shape)}" for k, x in batch.items())
    naive = run.task.initial_loss()
    loss = "the initial loss depends on what is mined"
    if not run.task.renew_every:
        loss = f"initial loss {_initial_loss(run, state, batch):.4f}"
    theory = "" if naive is None else f"; a network that knows nothing: {naive:.4f}"
    return [
        json.dumps({"name": name, **config.to_dict(experiment)}, indent=2),
        f"{parameters:,} parameters",
        f"{examples:,} training and {len(validation):,} validation examples; "
        f"{steps:,} steps of {size} are {epochs}",
        f"{devices}; the first batch of a process: {shapes}",
        f"{loss}{theory}",
        *filter(None, [origin]),
    ]


def _initial_loss(run: Run, state, batch) -> float:
    """The loss of one training batch before any step, without dropout."""

    def loss(variables, batch):
        outputs = run.experiment.model.apply(variables, *run.task.inputs(batch))
        return mean(*apply_loss(run.task, outputs, batch)[:2])

    return float(jax.jit(loss)(state.variables(), batch))


def overfit(experiment: Experiment, count: int, layout: Layout) -> bool:
    """Trains on one fixed batch of `count` examples, without augmentation or dropout.

    The learning rate is constant and label smoothing off, so that nothing keeps the loss from 0.
    Prints the loss on the way, and returns whether it fell below 5 % of that of a network that
    knows nothing (where theory gives none, of the untrained one). Raises ValueError where `count`
    is not positive or does not divide by the devices.
    """
    changes = {"batch_size": count, "augment": Augment(), "dropout_rate": 0.0, "ema": 0.0}
    changes |= {"schedule": "constant", "warmup_steps": 0}
    changes |= {"accumulate": 1, "label_smoothing": 0.0}
    for name, value in changes.items():
        experiment = fields.set_everywhere(experiment, name, value)
    run = Run(experiment, layout)
    state, mined = run.initial_state(), None
    if run.task.renew_every:
        variables = layout.put(state.variables())
        mined = run.task.mine(run, variables, seed=(experiment.seed, 0))
    batch = run.train_items(mined)[0]
    naive = run.task.initial_loss() or _initial_loss(run, state, batch)
    state, target = layout.put(state), OVERFITTED * naive
    for step in range(1, experiment.steps + 1):
        state, metrics = run.train_step(state, run.split(batch))
        loss = float(metrics["loss"])
        if not np.isfinite(loss):
            print(f"The loss became {loss} at step {step}: lower the rate.")
            return False
        if loss < target or step == experiment.steps or step & (step - 1) == 0:
            print(f"step {step}: loss {loss:.4f}", flush=True)  # A pipe shows it at once, too.
        if loss < target:
            print(f"The loss goes to zero on {count} example(s): below {target:.4f}.")
            return True
    print(
        f"The loss did NOT go to zero on {count} example(s): {loss:.4f} after {step} steps, and "
        f"below {target:.4f} was wanted. Look for swapped labels, a rate that is too low or too "
        f"high (--set optimizer.learning_rate=...), or give it more steps."
    )
    return False
