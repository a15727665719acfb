"""The two checks before a long run: look at what would happen, and over-fit a handful.

Both write nothing. They are the first steps of Karpathy's "A Recipe for Training Neural
Networks" (2019): verify the loss at initialisation, overfit one batch.
"""

import dataclasses
import json

import jax
import numpy as np

from zoo.data.augment import Augment
from zoo.train import config
from zoo.train.config import Experiment
from zoo.train.parallel import Layout, to_host
from zoo.train.run import Run
from zoo.train.step import make_eval_step

OVERFITTED = 0.05  # Of the loss of a network that knows nothing; below counts as zero.


def dry_run(name: str, experiment: Experiment, layout: Layout) -> list[str]:
    """The lines that tell what a launch would do, after one forward pass.

    Raises:
        ValueError: whatever would stop the launch.
    """
    run = Run(experiment, layout)
    validation = run.source(experiment.data.validation_split)
    batch = run.train_items[0]
    state = run.initial_state()
    sums = _initial_sums(run, state, batch)
    examples, size = len(run.train_source), experiment.data.batch_size
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    shapes = ", ".join(f"{k} {x.dtype}{list(x.shape)}" for k, x in batch.items())
    return [
        json.dumps({"name": name, **config.to_dict(experiment)}, indent=2),
        f"{parameters:,} parameters",
        f"{examples:,} training and {len(validation):,} validation examples; {experiment.steps:,} "
        f"steps of {size} are {experiment.steps * size / examples:.1f} epochs of "
        f"{examples / size:.1f} steps",
        f"{layout.count} {jax.default_backend()} device(s) by {layout.how}; the first batch of a "
        f"process: {shapes}",
        f"initial loss {run.task.scores(sums)['loss']:.4f}; a network that knows nothing: "
        f"{run.task.initial_loss():.4f}",
    ]


def _initial_sums(run: Run, state, batch) -> dict[str, np.ndarray]:
    """The task's sums over one training batch, before any step."""
    return to_host(
        jax.jit(make_eval_step(run.experiment.model, run.task))(state.variables(), batch)
    )


def overfit(experiment: Experiment, count: int, layout: Layout) -> tuple[bool, list[str]]:
    """Trains on the first `count` examples as one fixed batch, without augmentation or dropout.

    The learning rate is constant and label smoothing off, so that nothing keeps the loss from 0.

    Returns:
        Whether the loss fell below 5 % of the loss of a network that knows nothing, and lines
        with the loss on the way.

    Raises:
        ValueError: `count` is not positive, does not divide by the devices, or is more than the
            training split holds.
    """
    data = dataclasses.replace(experiment.data, batch_size=count, augment=Augment())
    rule = dataclasses.replace(experiment.optimizer, schedule="constant", accumulate=1, ema=0.0)
    model, task = experiment.model, experiment.task
    if hasattr(model, "dropout_rate"):
        model = model.clone(dropout_rate=0.0)
    if hasattr(task, "label_smoothing"):
        task = dataclasses.replace(task, label_smoothing=0.0)
    experiment = dataclasses.replace(experiment, data=data, optimizer=rule, model=model, task=task)
    run = Run(experiment, layout, limit=count)
    batch, state, target = run.train_items[0], layout.put(run.initial_state()), None
    target = OVERFITTED * run.task.initial_loss()
    lines = []
    for step in range(1, experiment.steps + 1):
        state, metrics = run.train_step(state, layout.split(batch))
        loss = float(metrics["loss"])
        if not np.isfinite(loss):
            return False, [*lines, f"The loss became {loss} at step {step}: lower the rate."]
        done = loss < target
        if done or step == experiment.steps or step & (step - 1) == 0:
            lines.append(f"step {step}: loss {loss:.4f}")
        if done:
            return True, [
                *lines,
                f"The loss goes to zero on {count} example(s): below {target:.4f}.",
            ]
    return False, [
        *lines,
        f"The loss did NOT go to zero on {count} example(s): {loss:.4f} after {step} steps, and "
        f"below {target:.4f} was wanted. Look for swapped labels, a rate that is too low or too "
        f"high (--set optimizer.learning_rate=...), or give it more steps.",
    ]
