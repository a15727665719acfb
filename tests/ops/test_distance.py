import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.distance import pairwise_squared_distance, safe_sqrt, unit_rows


def test_safe_sqrt(variant):
    x = np.array([4.0, 1e-30, 0.0, -1e-9], np.float32)
    np.testing.assert_allclose(variant(safe_sqrt)(x), [2, 1e-15, 0, 0], rtol=1e-6)
    gradient = variant(jax.grad(lambda x: safe_sqrt(x).sum()))(x)
    np.testing.assert_allclose(gradient, [0.25, 5e14, 0, 0], rtol=1e-6)


def test_unit_rows(variant):
    x = np.array([[3, 4], [3e-29, 4e-29], [3e30, -4e30], [0, 0], [np.nan, 1]], np.float32)
    want = [[0.6, 0.8], [0.6, 0.8], [0.6, -0.8], [0, 0], [np.nan, np.nan]]
    np.testing.assert_allclose(variant(unit_rows)(x), want, rtol=1e-6)
    # Of the first entry x / r, r = |(x, y)|: y^2 / r^3 and -x y / r^3; of zeros 0.
    gradient = variant(jax.grad(lambda x: unit_rows(x)[..., 0].sum()))(x)
    want = [[0.128, -0.096], [1.28e28, -9.6e27], [1.28e-31, 9.6e-32], [0, 0]]
    np.testing.assert_allclose(gradient[:4], want, rtol=1e-5)


# Widths below, at and beside the terms of a pass; 515 rows of 600 are worked on in two blocks.
@pytest.mark.parametrize("n, m, d", [(5, 7, 3), (1, 1, 16), (515, 600, 35)])
def test_matches_float64(n, m, d):
    rng = np.random.default_rng(0)
    x, y, g = (rng.normal(size=s).astype(np.float32) for s in ((n, d), (m, d), (n, m)))
    difference = x[:, None].astype(np.float64) - y
    got, pull = jax.vjp(jax.jit(pairwise_squared_distance), x, y)
    np.testing.assert_allclose(got, (difference**2).sum(-1), rtol=2e-6)
    for mine, axis, sign in zip(pull(jnp.asarray(g)), (1, 0), (2, -2), strict=True):
        want = sign * (g[..., None] * difference).sum(axis)
        assert mine.shape == want.shape
        assert np.abs(mine - want).max(initial=0) <= 2e-6 * np.abs(want).max(initial=0)


def test_close_rows_far_from_the_origin_do_not_cancel(variant):
    """|x|^2 + |y|^2 - 2 x.y has lost every digit here; so has it for two near points among far."""
    rng = np.random.default_rng(0)
    x = (1000 + rng.normal(size=(40, 48))).astype(np.float32)
    x[7] = x[3]
    x[8] = x[3] + np.float32(1e-2)
    x[9:] -= 2000
    want = ((x[:, None].astype(np.float64) - x) ** 2).sum(-1)
    got, pull = jax.vjp(variant(pairwise_squared_distance), x, x)
    np.testing.assert_allclose(got, want, rtol=2e-6)
    assert got[3, 7] == got[7, 3] == 0 and not np.diag(got).any()
    g = np.zeros((40, 40), np.float32)
    g[3, 8] = 1
    np.testing.assert_allclose(pull(jnp.asarray(g))[0][3], 2.0 * (x[3] - x[8]), rtol=1e-6)
    gram = (x * x).sum(1)[:, None] + (x * x).sum(1) - 2 * x @ x.T
    assert abs(gram[3, 8] - want[3, 8]) > 0.1 * want[3, 8]


def test_bfloat16_is_computed_in_float32_and_vmap_maps():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 20)), jnp.bfloat16)
    got = jax.vmap(pairwise_squared_distance)(x, x)
    exact = np.asarray(x, np.float64)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, ((exact[:, :, None] - exact[:, None]) ** 2).sum(-1), rtol=2e-6)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (2, 3)), ((2, 3), (1, 2, 3)),
                                    ((2, 3), (0, 3)), ((2, 0), (2, 0))])  # fmt: skip
def test_refuses(shapes):
    with pytest.raises(ValueError, match=r"x \[n, d\] and y \[m, d\], m, d > 0, are needed; got"):
        pairwise_squared_distance(*map(np.zeros, shapes))


def test_refuses_integers_which_float32_may_round():
    with pytest.raises(ValueError, match=r"needed; got int64 \(1, 1\) and int64 \(1, 1\)"):
        pairwise_squared_distance(np.array([[2**24 + 1]]), np.array([[2**24]]))
