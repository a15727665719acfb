import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal, picture
from zoo.ops.normalize import mean_and_var, scale_shift


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 5, 7, 3), (3, 1, 40, 1)])
def test_mean_and_var_match_float64(shape):
    # Far from 0, where the mean of squares less the square of the mean has no digit left.
    x = picture(*shape) + np.float32(1000)
    mean, var = jax.jit(mean_and_var)(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, wide.var((0, 1, 2)), rtol=1e-4, atol=1e-6)


def test_mean_and_var_of_bfloat16_are_float32():
    x = jnp.asarray(picture(2, 32, 32, 2), jnp.bfloat16)
    for got, want in zip(mean_and_var(x), mean_and_var(x.astype(jnp.float32)), strict=True):
        assert got.dtype == jnp.float32
        equal(got, want)


def test_their_gradients_match_float64():
    """By hand: a mean passes its cotangent / n to each, a variance 2 (x - mean) / n of it."""
    x, weight = picture(2, 4, 5, 3), picture(2, 3, seed=1)

    def loss(x):
        return sum((w * v).sum() for w, v in zip(weight, mean_and_var(x), strict=True))

    wide, n = x.astype(np.float64), 2 * 4 * 5
    equal(
        jax.jit(jax.grad(loss))(x),
        weight[0] / n + 2 * (wide - wide.mean((0, 1, 2))) * weight[1] / n,
    )


def test_their_second_derivatives_by_hand():
    """Of the variance of n numbers 2 / n (I - 1 / n); of the mean none. Over devices too."""
    n, x = 6, picture(6)

    def both(x):
        return [v[0] for v in mean_and_var(x.reshape(1, 2, 3, 1))]

    mean, var = jax.jit(jax.hessian(both))(x)
    equal(var, 2 / n * (np.eye(n) - 1 / n))
    np.testing.assert_array_equal(mean, 0)
    push = picture(6, seed=1)
    backwards = jax.grad(lambda x: jax.grad(lambda x: both(x)[1])(x) @ push)
    equal(backwards(x), 2 / n * (push - push.mean()))


def test_mean_and_var_over_devices_are_those_of_all():
    x = picture(8, 2, 4, 5, 3)
    both = jax.pmap(lambda x: mean_and_var(x, "devices"), axis_name="devices")(x)
    for got, want in zip(both, mean_and_var(x.reshape(16, 4, 5, 3)), strict=True):
        equal(got, np.broadcast_to(want, got.shape))


def test_scale_shift_differentiates_as_the_plain_form():
    x, ct = picture(2, 4, 5, 3), picture(2, 4, 5, 3, seed=1)
    by = tuple(picture(2, 3, seed=2))
    plain = lambda x, scale, shift: x * scale + shift  # noqa: E731
    inputs, moves = (x, *by), (ct, *picture(2, 3, seed=3))

    def all_of(function):
        value, pull = jax.vjp(function, *inputs)

        def length(*inputs):
            return sum((g**2).sum() for g in jax.vjp(function, *inputs)[1](ct))

        second = jax.grad(length, (0, 1, 2))(*inputs)
        images = jax.vmap(lambda x: jax.grad(lambda s: (function(x[None], s, by[1])).sum())(by[0]))(
            x
        )
        return value, pull(ct), jax.jvp(function, inputs, moves), second, images

    got, want = jax.jit(lambda: (all_of(scale_shift), all_of(plain)))()
    jax.tree.map(equal, got, want)
    wide = x.astype(np.float64)  # And by hand.
    equal(got[1][1], (wide * ct).sum((0, 1, 2)))
    equal(got[1][2], ct.astype(np.float64).sum((0, 1, 2)))
