import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.losses import mean


def test_mean_is_the_ratio_of_sums(variant):
    rng = np.random.default_rng(0)
    weights = rng.random((3, 4, 5))
    values = weights * rng.normal(size=(3, 4, 5))
    got = variant(mean)(values.astype(np.float32), weights.astype(np.float32))
    np.testing.assert_allclose(got, values.sum() / weights.sum(), rtol=1e-5)
    assert got.dtype == jnp.float32


def test_no_weight_gives_zero_and_zero_gradient(variant):
    value, gradient = variant(jax.value_and_grad(lambda x: mean(x * 0, jnp.zeros(5))))(jnp.ones(5))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(5))


def test_small_weights_count(variant):
    got = variant(mean)(np.array([3e-6, 0], np.float32), np.array([1e-6, 0], np.float32))
    np.testing.assert_allclose(got, 3.0, rtol=1e-5)


def test_reduces_in_float32(variant):
    # In bfloat16 the sum of ones would stop at 256.
    ones = jnp.ones(3000, jnp.bfloat16)
    assert variant(mean)(3 * ones, ones) == 3


def test_refuses_two_shapes():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        mean(jnp.ones(3), jnp.ones(2))
