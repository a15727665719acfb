"""The step against gradient descent written out in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from zoo.losses import pixel_cross_entropy
from zoo.metrics import confusion_matrix
from zoo.train.parallel import Layout, to_host
from zoo.train.state import create
from zoo.train.step import make_eval_step, make_train_step
from zoo.train.task import Task

K, C, RATE, MOMENTUM, EMA = 3, 2, 0.5, 0.9, 0.9


class Linear(nn.Module):
    """Logits of a pixel from its channels alone, so that a loop can follow it."""

    @nn.compact
    def __call__(self, image, *, train=False):
        return nn.Dense(K, use_bias=False)(image)


@dataclasses.dataclass(frozen=True)
class Pixels(Task):
    def inputs(self, batch):
        return (batch["image"],)

    def loss(self, logits, batch, anchors=None):
        return pixel_cross_entropy(logits, batch["label"], ignore_label=255)

    def sums(self, logits, batch):
        values, weights = self.loss(logits, batch)
        counts = confusion_matrix(jnp.argmax(logits, -1), batch["label"], K, 255)
        return {"confusion": counts, "loss": values.sum(), "weight": weights.sum()}


def batches(count, b=4, size=3):
    rng = np.random.default_rng(0)
    for n in range(count):
        label = rng.integers(0, K, (b, size, size)).astype(np.int32)
        label[: 1 + n % b, :2] = 255  # The halves of a batch differ in void.
        yield {"image": rng.normal(size=(b, size, size, C)).astype(np.float32), "label": label}


def descend(kernel, steps):
    """Momentum SGD on softmax regression, its average of parameters and losses, in float64."""
    w, trace, average = kernel.astype(np.float64), 0.0, kernel.astype(np.float64)
    losses = []
    for t, batch in enumerate(batches(steps)):
        x, y = batch["image"].reshape(-1, C).astype(np.float64), batch["label"].ravel()
        x, y = x[y != 255], y[y != 255]
        p = np.exp(x @ w)
        p /= p.sum(1, keepdims=True)
        losses.append(-np.log(p[np.arange(len(y)), y]).mean())
        gradient = x.T @ (p - np.eye(K)[y]) / len(y)
        trace = gradient + MOMENTUM * trace
        w = w - RATE * trace
        decay = min(EMA, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * w
    return w, average, losses


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_step_is_momentum_sgd_on_the_mean_over_labelled_pixels(accumulate):
    model, tx = Linear(), optax.sgd(RATE, momentum=MOMENTUM)
    first = next(batches(1))
    state = create(model, (first["image"],), tx, seed=1, ema=True)
    want, average, losses = descend(np.asarray(state.params["Dense_0"]["kernel"]), 5)
    step = jax.jit(make_train_step(model, Pixels(), tx, ema_decay=EMA, accumulate=accumulate))
    for batch, loss in zip(batches(5), losses, strict=True):
        state, metrics = step(state, batch)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert state.step == 5
    np.testing.assert_allclose(state.params["Dense_0"]["kernel"], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.ema["Dense_0"]["kernel"], average, rtol=1e-4, atol=1e-5)
    assert state.variables()["params"] is state.ema


def test_a_batch_without_labels_moves_nothing():
    model, tx = Linear(), optax.sgd(RATE)
    batch = {**next(batches(1)), "label": np.full((4, 3, 3), 255, np.int32)}
    state = create(model, (batch["image"],), tx, seed=1, ema=False)
    after, metrics = jax.jit(make_train_step(model, Pixels(), tx))(state, batch)
    assert metrics["loss"] == 0 and metrics["grad_norm"] == 0
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, image, *, train=False):
        return nn.Dense(K)(nn.Dropout(0.5, deterministic=not train)(image))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, image, *, train=False):
        return nn.Dense(K)(nn.BatchNorm(not train, momentum=0.5)(image))


def test_dropout_differs_by_device():
    """The same picture on each: with one mask for all the loss would be that of one device."""
    model, tx, batch = Dropped(), optax.sgd(0.0), next(batches(1, b=1, size=9))
    state = create(model, (batch["image"],), tx, seed=1, ema=False)

    def loss(devices):
        layout = Layout(devices=jax.devices()[:devices])
        rows = {k: np.repeat(x, devices, 0) for k, x in batch.items()}
        step = layout.map(make_train_step(model, Pixels(), tx))
        return float(to_host(step(layout.put(state), layout.split(rows))[1])["loss"])

    assert abs(loss(1) - loss(2)) > 1e-3


def test_dropout_differs_by_part_of_an_accumulated_batch():
    """The same picture in each part: with one mask for both, the first alone has their loss."""
    model, tx, batch = Dropped(), optax.sgd(0.0), next(batches(1, b=1, size=9))
    state = create(model, (batch["image"],), tx, seed=1, ema=False)
    step = jax.jit(make_train_step(model, Pixels(), tx, accumulate=2))
    both = {k: np.repeat(x, 2, 0) for k, x in batch.items()}
    first = {**both, "label": np.stack([both["label"][0], np.full((9, 9), 255, np.int32)])}
    losses = [float(step(state, rows)[1]["loss"]) for rows in (both, first)]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_statistics_see_every_part_of_an_accumulated_batch():
    model, tx, batch = Normed(), optax.sgd(0.0), next(batches(1))
    state = create(model, (batch["image"],), tx, seed=1, ema=False)
    step = jax.jit(make_train_step(model, Pixels(), tx, accumulate=2))
    got = step(state, batch)[0].batch_stats["BatchNorm_0"]["mean"]
    first, second = (batch["image"][i::2].reshape(-1, C).astype(float).mean(0) for i in (0, 1))
    np.testing.assert_allclose(got, 0.5 * (0.5 * first) + 0.5 * second, rtol=1e-4, atol=1e-6)


def test_dropout_differs_by_step_and_repeats_by_seed():
    model, tx = Dropped(), optax.sgd(0.0)
    batch = next(batches(1))
    state = create(model, (batch["image"],), tx, seed=1, ema=False)

    def losses(seed):
        step, now, found = jax.jit(make_train_step(model, Pixels(), tx, seed=seed)), state, []
        for _ in range(3):
            now, metrics = step(now, batch)
            found.append(float(metrics["loss"]))
        return found

    assert losses(3) == losses(3)
    assert len(set(losses(3) + losses(4))) == 6


def test_eval_step_sums_what_the_batch_holds():
    model = Linear()
    batch = next(batches(1))
    variables = model.init(jax.random.key(0), batch["image"])
    sums, rows = jax.jit(make_eval_step(model, Pixels()))(variables, batch)
    logits = np.asarray(batch["image"] @ np.asarray(variables["params"]["Dense_0"]["kernel"]))
    keep = batch["label"] != 255
    want = np.zeros((K, K), int)
    np.add.at(want, (batch["label"][keep], logits.argmax(-1)[keep]), 1)
    np.testing.assert_array_equal(sums["confusion"], want)
    assert sums["weight"] == keep.sum() and rows == {}
