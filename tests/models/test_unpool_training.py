import functools

import jax
import numpy as np
import optax
import pytest

from support import descend, equal, initialised, picture
from zoo.models import MaxUnpoolNet


def test_batch_statistics_move_in_training_only():
    model = MaxUnpoolNet(2, width=2, blocks=(1, 2))
    image = picture(2, 8, 8, 1)
    variables = initialised(model, image)

    @functools.partial(jax.jit, static_argnames="train")
    def run(train):
        return model.apply(variables, image, train=train, mutable="batch_stats")

    _, after = run(train=False)
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], variables["batch_stats"])
    _, after = run(train=True)
    for old, new in zip(
        jax.tree.leaves(variables["batch_stats"]),
        jax.tree.leaves(after["batch_stats"]),
        strict=True,
    ):
        assert (old != new).all()


@pytest.mark.slow
def test_eight_devices_equal_one():
    """Logits, gradient and statistics of a training step, one picture a device."""
    assert jax.local_device_count() == 8
    model = MaxUnpoolNet(2, width=2, blocks=(1, 1))
    image, weight = picture(8, 1, 8, 12, 1), picture(8, 1, 8, 12, 2, seed=1)
    variables = initialised(model, image[0])

    def step(model, image, weight):
        def loss(params):
            logits, after = model.apply(
                {**variables, "params": params}, image, train=True, mutable="batch_stats"
            )
            return (logits * weight).sum(), (logits, after)

        gradient, out = jax.grad(loss, has_aux=True)(variables["params"])
        return gradient if model.axis_name is None else jax.lax.psum(gradient, "i"), out

    whole = image.reshape(8, 8, 12, 1), weight.reshape(8, 8, 12, 2)
    gradient, (logits, after) = jax.jit(lambda *arrays: step(model, *arrays))(*whole)
    shared = model.clone(axis_name="i")
    got, (found, stats) = jax.pmap(lambda *arrays: step(shared, *arrays), "i")(image, weight)
    equal(found[:, 0], logits)
    jax.tree.map(lambda a, b: equal(a[0], b), (got, stats), (gradient, after))


@pytest.mark.slow
def test_learns_one_batch_by_heart():
    model = MaxUnpoolNet(3, width=8, blocks=(2,))
    rng = np.random.default_rng(0)
    image = picture(2, 16, 16, 1)
    label = rng.integers(0, 3, (2, 16, 16))
    variables = initialised(model, image)

    def loss(params):
        logits, _ = model.apply(
            {**variables, "params": params}, image, train=True, mutable="batch_stats"
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    _, losses = descend(loss, variables["params"], rate=1e-2, steps=300)
    assert losses[0] > 0.9 and losses[-1] < 0.05
