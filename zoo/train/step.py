"""One step of training and one of evaluation: pure functions of state and batch.

Each is a per-device program. Under a mapped axis the sums cross the devices by `psum` and are
divided once, so that any number of devices takes the same step (DESIGN, "Devices").
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from zoo.train.state import TrainState

Batch = Mapping[str, jax.Array]


def make_train_step(
    model: nn.Module,
    task: Any,
    tx: optax.GradientTransformation,
    *,
    seed: int = 0,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Builds `step(state, batch, axis_name=None) -> state, metrics`.

    Args:
        model: called as `model.apply(variables, *task.inputs(batch), train=True)`.
        task: has `inputs(batch) -> tuple` and `loss(outputs, batch) -> values, weights`.
        seed: dropout of a step derives from it, the step and the device.
        ema_decay: of the average of parameters; 0 keeps none. The first steps use
            (1 + t) / (10 + t) where that is smaller, or the average would remember the start.
        accumulate: the batch of a device goes through in this many equal parts, one after the
            other; their sums are divided once, so a part with fewer labelled pixels weighs
            less. Batch norm, and a loss that mines, see a part and not the batch.

    Returns:
        The step. `metrics` holds `loss`, the mean over all devices, and `grad_norm`, before
        clipping, both [] float32.
    """

    def summed(params, batch_stats, batch, key):
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, updated = model.apply(
            variables, *task.inputs(batch), train=True, rngs={"dropout": key}, mutable="batch_stats"
        )
        values, weights = task.loss(outputs, batch)
        return values.sum(), (weights.sum(), updated.get("batch_stats", {}))

    gradient = jax.value_and_grad(summed, has_aux=True)

    def totals(state: TrainState, batch: Batch, key: jax.Array):
        """Sums over this device's batch: gradient, loss and weight; and the new statistics."""
        if accumulate == 1:
            (value, (weight, stats)), grads = gradient(state.params, state.batch_stats, batch, key)
            return grads, value, weight, stats

        def part(carry, inputs):
            grads, value, weight, stats = carry
            batch, index = inputs
            (v, (w, stats)), g = gradient(
                state.params, stats, batch, jax.random.fold_in(key, index)
            )
            return (jax.tree.map(jnp.add, grads, g), value + v, weight + w, stats), None

        parts = jax.tree.map(
            lambda x: x.reshape(accumulate, x.shape[0] // accumulate, *x.shape[1:]), dict(batch)
        )
        zero = jnp.zeros((), jnp.float32)
        start = jax.tree.map(jnp.zeros_like, state.params), zero, zero, state.batch_stats
        return jax.lax.scan(part, start, (parts, jnp.arange(accumulate)))[0]

    def step(state: TrainState, batch: Batch, axis_name: str | None = None):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        grads, value, weight, stats = totals(state, batch, key)
        if axis_name is not None:
            grads, value, weight = jax.lax.psum((grads, value, weight), axis_name)
        # A batch without a labelled pixel is a step of gradient 0, not of nan.
        divisor = jnp.where(weight > 0, weight, 1.0)
        grads = jax.tree.map(lambda g: g / divisor, grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema_decay:
            t = state.step.astype(jnp.float32)
            decay = jnp.minimum(ema_decay, (1.0 + t) / (10.0 + t))
            ema = jax.tree.map(lambda old, new: old + (1.0 - decay) * (new - old), ema, params)
        metrics = {"loss": value / divisor, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, stats, opt_state, ema), metrics

    return step


def make_eval_step(model: nn.Module, task: Any) -> Callable[..., Any]:
    """Builds `step(variables, batch, axis_name=None) -> sums`, what the host adds up.

    `task.sums(outputs, batch)` is a tree of sums over the batch; here they cross the devices.
    """

    def step(variables: Mapping[str, Any], batch: Batch, axis_name: str | None = None):
        sums = task.sums(model.apply(variables, *task.inputs(batch)), batch)
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    return step
