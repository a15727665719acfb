"""Margins, temperatures and the like may be learned or follow a schedule: they may be traced."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support import equal
from zoo import losses

RNG = np.random.default_rng(0)
X, Y, Z = RNG.normal(size=(3, 12, 4)).astype(np.float32)
CLASSES = np.repeat(np.arange(4), 3)
LOGITS = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
PIXELS = RNG.integers(5, size=(2, 3, 4))

# What a loss takes, and its numbers; in steps of 2e-3 no triplet or pair becomes active.
CASES = [
    (losses.contrastive, (X, Y, CLASSES < 2), {"margin": 2.5}),
    (losses.triplet, (X, Y, Z), {"margin": 0.7}),
    (losses.batch_hard_triplet, (X, CLASSES), {"margin": 0.7}),
    (losses.batch_all_triplet, (X, CLASSES), {"margin": 0.7}),
    (losses.batch_semi_hard_triplet, (X, CLASSES), {"margin": 0.7}),
    (losses.multi_similarity, (X, CLASSES), {"alpha": 2.0, "beta": 5.0, "base": 0.5}),
    (losses.supervised_contrastive, (X, CLASSES), {"temperature": 0.5}),
    (losses.arcface, (X, Y[:4], CLASSES), {"margin": 0.5, "scale": 8.0}),
    (losses.pixel_cross_entropy, (LOGITS, PIXELS), {"label_smoothing": 0.1}),
    (losses.focal, (LOGITS, PIXELS), {"gamma": 2.0}),
    (losses.tversky, (LOGITS, PIXELS), {"alpha": 0.3, "beta": 0.7, "smooth": 1.0}),
]
NUMBERS = [(*case[:2], case[2], name) for case in CASES for name in case[2]]


def total(loss, inputs, options, name, number):
    return loss(*inputs, **{**options, name: number})[0].sum()


@pytest.mark.parametrize(("loss", "inputs", "options", "name"), NUMBERS)
def test_numbers_may_be_traced(loss, inputs, options, name):
    of = functools.partial(total, loss, inputs, options, name)
    value, slope = jax.jit(jax.value_and_grad(of))(options[name])
    equal(value, of(options[name]))
    h = 1e-3 * options[name]
    difference = (of(options[name] + h) - of(options[name] - h)) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=2e-2, atol=2e-3)
    assert slope != 0
    several = jnp.array([0.9, 1.1]) * options[name]
    equal(jax.vmap(of)(several), [of(float(one)) for one in several])


@pytest.mark.parametrize(("loss", "inputs", "options", "name"), NUMBERS)
def test_numbers_may_be_parameters_of_nnx(loss, inputs, options, name):
    class Held(nnx.Module):
        def __init__(self):
            self.number = nnx.Param(jnp.float32(options[name]))

    held, of = Held(), functools.partial(total, loss, inputs, options, name)
    value, slopes = nnx.jit(nnx.value_and_grad(lambda held: of(held.number)))(held)
    wanted = jax.jit(jax.value_and_grad(of))(options[name])
    equal((value, slopes["number"][...]), wanted)


def test_class_weights_may_be_a_parameter_of_nnx():
    def loss(weights):
        return losses.pixel_cross_entropy(LOGITS, PIXELS, class_weights=weights)[0].sum()

    weights = jnp.arange(1.0, 6)
    slope = nnx.jit(nnx.grad(loss))(nnx.Param(weights))
    equal(slope[...], jax.grad(loss)(weights))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e10])
@pytest.mark.parametrize("loss", [losses.batch_all_triplet, losses.batch_semi_hard_triplet])
def test_each_active_triplet_gives_the_margin_a_slope_of_one(loss, scale, squared):
    unit = scale**2 if squared else scale
    weights = loss(scale * X, CLASSES, margin=0.7 * unit, squared=squared)[1]
    of = lambda margin: loss(scale * X, CLASSES, margin=margin, squared=squared)[0].sum()  # noqa: E731
    assert weights.sum() > 0
    equal(jax.grad(of)(0.7 * unit), weights.sum())
