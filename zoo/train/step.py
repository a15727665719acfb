"""One step of training and one of evaluation: pure functions of state and batch.

Each is a per-device program. Under a mapped axis the sums cross the devices by `psum` and are
divided once, so that any number of devices takes the same step (DESIGN, "Devices").
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from zoo.train.parallel import gather, total
from zoo.train.state import TrainState
from zoo.train.task import Batch, Task


def make_train_step(
    model: nn.Module,
    task: Task,
    tx: optax.GradientTransformation,
    *,
    seed: int = 0,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Builds `step(state, batch, axis_name=None) -> state, metrics`.

    `metrics` holds `loss`, the mean over all devices, `grad_norm`, before clipping, and the task's
    own, all [] float32.

    Args:
        model: called as `model.apply(variables, *task.inputs(batch), train=True)`.
        seed: dropout of a step derives from it, the step and the device.
        ema_decay: of the average of parameters; 0 keeps none. The first steps use
            (1 + t) / (10 + t) where that is smaller, or the average would remember the start.
        accumulate: the batch goes through in this many equal parts, one by one, each over all
            devices; their sums are divided once, so a part with fewer labelled pixels weighs less.
            Batch norm, and a loss that mines, see a part and not the batch. On a device part i is
            every `accumulate`-th row from i on, see `Layout.split`.
    """

    def summed(params, batch_stats, batch, key, axis_name):
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, updated = model.apply(
            variables, *task.inputs(batch), train=True, rngs={"dropout": key}, mutable="batch_stats"
        )
        values, weights, monitored = apply_loss(task, outputs, batch, axis_name)
        sums = {"weight": weights.sum(), "loss": values.sum(), "monitored": monitored}
        return values.sum(), (sums, updated.get("batch_stats", {}))

    gradient = jax.value_and_grad(summed, has_aux=True)

    def totals(state: TrainState, batch: Batch, key: jax.Array, axis_name: str | None):
        """Sums over this device's batch, gradient and others; and the new statistics."""

        def one(batch, index, stats):
            part_key = jax.random.fold_in(key, index) if accumulate > 1 else key
            (_, (sums, stats)), grads = gradient(state.params, stats, batch, part_key, axis_name)
            return (grads, sums), stats

        if accumulate == 1:
            return one(batch, 0, state.batch_stats)

        def part(carry, inputs):
            sums, stats = carry
            more, stats = one(*inputs, stats)
            return (jax.tree.map(jnp.add, sums, more), stats), None

        def parts(x):  # Not [accumulate, -1, ...]: a batch spread by XLA would cross the devices.
            return x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1)

        inputs = jax.tree.map(parts, dict(batch)), jnp.arange(accumulate)
        first = jax.tree.map(lambda x: x[0], inputs)
        zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, *first, state.batch_stats)[0])
        return jax.lax.scan(part, (zeros, state.batch_stats), inputs)[0]

    def step(state: TrainState, batch: Batch, axis_name: str | None = None):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        (grads, sums), stats = totals(state, batch, key, axis_name)
        grads, sums = total((grads, sums), axis_name)
        if axis_name is not None:  # They differ where the model's own `axis_name` is None.
            stats = jax.lax.pmean(stats, axis_name)
        # A batch in which nothing weighs is a step of gradient 0, not of nan.
        divisor = jnp.where(sums["weight"] > 0, sums["weight"], 1.0)
        grads = jax.tree.map(lambda g: g / divisor, grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema, t = state.ema, state.step.astype(jnp.float32)
        if ema_decay:
            decay = jnp.minimum(ema_decay, (1.0 + t) / (10.0 + t))
            ema = jax.tree.map(lambda old, new: old + (1.0 - decay) * (new - old), ema, params)
        metrics = {"loss": sums["loss"] / divisor, "grad_norm": optax.tree.norm(grads)}
        metrics |= task.metrics(sums["monitored"])
        return TrainState(state.step + 1, params, stats, opt_state, ema), metrics

    return step


def apply_loss(
    task: Task, outputs: Any, batch: Batch, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Values and weights of this device's part of the loss, and the sums the task monitors."""
    anchors = None
    if task.mines:
        rows = {name: array for name, array in batch.items() if name != "image"}
        (outputs, batch), anchors = gather((outputs, rows), axis_name)
    values, weights = task.loss(outputs, batch, anchors)
    across = functools.partial(total, axis_name=axis_name)
    return values, weights, task.monitor(outputs, batch, weights, anchors, across)


def make_eval_step(model: nn.Module, task: Task) -> Callable[..., Any]:
    """Builds `step(variables, batch, axis_name=None) -> sums, rows`, what the host adds up.

    `task.sums(outputs, batch)` is a tree of sums that cross the devices; `task.rows` are gathered.
    """

    def step(variables: Mapping[str, Any], batch: Batch, axis_name: str | None = None):
        outputs = model.apply(variables, *task.inputs(batch))
        rows = {k: gather(x, axis_name)[0] for k, x in task.rows(outputs, batch).items()}
        return total(task.sums(outputs, batch), axis_name), rows

    return step


def make_embed_step(model: nn.Module) -> Callable[..., Any]:
    """Builds `step(variables, batch, axis_name=None) -> embeddings [b, d], weights [b]`.

    Rows of all devices, in order. A model of pairs has a method `embed`.
    """
    method = getattr(model, "embed", None) and "embed"

    def step(variables: Mapping[str, Any], batch: Batch, axis_name: str | None = None):
        embeddings = model.apply(variables, batch["image"], method=method)
        return gather((embeddings, batch["weight"]), axis_name)[0]

    return step
