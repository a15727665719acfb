import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from zoo.ops.pool import max_pool, max_pool_2x2, max_pool_with_indices, max_unpool


def test_max_pool_2x2_matches_torch_in_value_and_gradient(variant, peer):
    torch = peer("torch")
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(2, 3, 4, 3)).astype(np.float32)
    theirs = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    want = torch.nn.functional.max_pool2d(theirs, 2)
    (want * torch.from_numpy(weight).permute(0, 3, 1, 2)).sum().backward()
    np.testing.assert_array_equal(variant(max_pool_2x2)(x), want.detach().permute(0, 2, 3, 1))
    got = variant(jax.grad(lambda x: (max_pool_2x2(x) * weight).sum()))(x)
    np.testing.assert_array_equal(got, theirs.grad.permute(0, 2, 3, 1))


def test_ties_behind_a_relu_have_the_gradient_of_nn_max_pool():
    x = np.random.default_rng(0).normal(-1.0, 1.0, size=(2, 6, 8, 3)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(2, 3, 4, 3)).astype(np.float32)

    def gradient(pool):
        return jax.grad(lambda x: (pool(nn.relu(x)) * weight).sum())(x)

    assert (nn.relu(x).reshape(2, 3, 2, 4, 2, 3).max((2, 4)) == 0).any()
    want = gradient(lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    np.testing.assert_array_equal(gradient(max_pool_2x2), want)


def test_equal_maxima_share_their_gradient():
    x = np.array([[1.0, 1.0], [0.0, 1.0]], np.float32).reshape(1, 2, 2, 1)
    got = jax.grad(lambda x: max_pool_2x2(x).sum())(x)
    np.testing.assert_allclose(got.sum(), 1.0)
    assert got[0, 1, 0, 0] == 0


@pytest.mark.parametrize("pool", [max_pool_2x2, lambda x: max_pool(x, 2, 2, 1)])
def test_no_gradient_waits_for_what_is_computed_twice_to_be_equal(pool):
    """That of `jnp.maximum` does, and loses what XLA rounds apart (jax-ml/jax#40564)."""

    x = np.zeros((1, 4, 4, 1), np.float32)
    program = jax.make_jaxpr(jax.grad(lambda x: pool(x).sum()))(x)
    steps = set(re.findall(r" = (\w+)", str(program)))
    assert {"gt", "lt"} <= steps and not {"eq", "ne", "max"} & steps


def test_a_nan_is_the_largest():
    x = np.array([[1.0, np.nan], [3.0, 2.0]], np.float32)
    for turned in (x, x.T, x[::-1], x[:, ::-1]):
        assert np.isnan(max_pool_2x2(turned[None, :, :, None])).all()


@pytest.mark.parametrize("shape", [(1, 3, 2, 1), (1, 2, 5, 1), (2, 2, 1)])
def test_max_pool_2x2_refuses(shape):
    with pytest.raises(ValueError, match=r"h and w even; got \("):
        max_pool_2x2(np.zeros(shape))


@pytest.mark.parametrize(
    ("window", "stride", "dilation"),
    [(2, 1, 1), (2, 1, 2), (2, 1, 8), (2, 2, 1), (3, 1, 3), (3, 2, 2), (3, 3, 1), (1, 1, 5)],
)
def test_max_pool_matches_torch_and_a_loop(variant, peer, window, stride, dilation):
    torch = peer("torch")
    x = np.random.default_rng(0).normal(size=(2, 11, 9, 3))
    reach = (window - 1) * dilation
    rows, columns = (range(0, n - reach, stride) for n in (11, 9))
    want = np.empty((2, len(rows), len(columns), 3))
    for i, y in enumerate(rows):
        for j, z in enumerate(columns):
            part = x[:, y : y + reach + 1 : dilation, z : z + reach + 1 : dilation]
            want[:, i, j] = part.max((1, 2))
    x = x.astype(np.float32)
    pool = variant(lambda x: max_pool(x, window, stride, dilation))
    np.testing.assert_array_equal(pool(x), want.astype(np.float32))
    theirs = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, window, stride, 0, dilation)
    weight = np.random.default_rng(1).normal(size=want.shape).astype(np.float32)
    (pooled * torch.from_numpy(weight).permute(0, 3, 1, 2)).sum().backward()
    np.testing.assert_array_equal(pool(x), pooled.detach().permute(0, 2, 3, 1))
    got = variant(jax.grad(lambda x: (max_pool(x, window, stride, dilation) * weight).sum()))(x)
    np.testing.assert_allclose(got, theirs.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("window", "strides", "size"),
    [
        ((2, 2), (2, 2), (6, 8)),
        ((2, 2), (2, 2), (5, 7)),
        ((3, 2), (2, 1), (8, 6)),
        ((1, 3), (2, 3), (4, 9)),
    ],
)
def test_pooling_and_back_match_torch(variant, peer, window, strides, size):
    """Few values, so that many maxima tie; windows that overlap, leave gaps or do not tile."""
    torch = peer("torch")
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (2, *size, 3)).astype(np.float32)
    theirs = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    want, places = torch.nn.functional.max_pool2d(theirs, window, strides, return_indices=True)
    pooled, indices = variant(lambda x: max_pool_with_indices(x, window, strides))(x)
    np.testing.assert_array_equal(pooled, want.detach().permute(0, 2, 3, 1))
    np.testing.assert_array_equal(indices, places.permute(0, 2, 3, 1))
    assert indices.dtype == jnp.int32

    back = torch.nn.functional.max_unpool2d(want, places, window, strides, output_size=size)
    weight = rng.normal(size=(2, *size, 3)).astype(np.float32)
    (back * torch.from_numpy(weight).permute(0, 3, 1, 2)).sum().backward()

    def there_and_back(x):
        return max_unpool(*max_pool_with_indices(x, window, strides), size)

    np.testing.assert_array_equal(variant(there_and_back)(x), back.detach().permute(0, 2, 3, 1))
    got = variant(jax.grad(lambda x: (there_and_back(x) * weight).sum()))(x)
    np.testing.assert_allclose(got, theirs.grad.permute(0, 2, 3, 1), rtol=1e-6)


def test_nan_is_the_largest_as_in_torch(peer):
    torch = peer("torch")
    x = np.array([[1, np.nan], [2, np.nan]], np.float32).reshape(1, 2, 2, 1)
    want, places = torch.nn.functional.max_pool2d(
        torch.from_numpy(x).permute(0, 3, 1, 2), 2, return_indices=True
    )
    pooled, indices = max_pool_with_indices(x, (2, 2), (2, 2))
    assert np.isnan(pooled).all() and want.isnan().all() and indices.item() == places.item()


def test_unpooling_maps_and_keeps_the_dtype():
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 4, 2)).astype(jnp.bfloat16)
    pooled, indices = jax.vmap(lambda x: max_pool_with_indices(x, (2, 2), (2, 2)))(x)
    got = jax.vmap(lambda p, i: max_unpool(p, i, (4, 4)))(pooled, indices)
    assert got.dtype == jnp.bfloat16
    for row in range(3):
        np.testing.assert_array_equal(got[row], max_unpool(pooled[row], indices[row], (4, 4)))
    assert (np.sort(got, axis=None)[-8:] == np.sort(pooled, axis=None)[-8:]).all()


def test_an_index_outside_is_seen_or_dropped():
    pooled, indices = np.ones((1, 1, 2, 1), np.float32), np.array([[[[3], [9]]]], np.int32)
    with pytest.raises(ValueError, match=r"indices must be in 0..3 for \(2, 2\); got 3..9"):
        max_unpool(pooled, indices, (2, 2))
    for outside in (4, -1):
        indices[..., 1, 0] = outside
        got, pull = jax.vjp(jax.jit(lambda p, i: max_unpool(p, i, (2, 2))), pooled, indices)
        np.testing.assert_array_equal(got.ravel(), [0, 0, 0, 1])
        np.testing.assert_array_equal(pull(jnp.full((1, 2, 2, 1), 5.0))[0].ravel(), [5, 0])


def test_places_that_are_known_are_seen_under_jit():
    """Of what a function closes over the values are there, whatever is traced beside."""
    pooled, indices = max_pool_with_indices(jnp.arange(32.0).reshape(1, 4, 4, 2), 2, 2)
    want = max_unpool(pooled, indices, (4, 4))
    got = jax.jit(lambda p: max_unpool(p, indices, (4, 4)))(pooled)
    np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match=r"indices must be in 0..3 for \(2, 2\)"):
        jax.jit(lambda p: max_unpool(p, indices, (2, 2)))(pooled)
    with pytest.raises(ValueError, match="integers of that shape; got .* float32"):
        max_unpool(pooled, indices.astype(jnp.float32), (4, 4))
    assert max_unpool(pooled[:0], indices[:0], (4, 4)).shape == (0, 4, 4, 2)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (max_pool, ((3, 4, 1), 2, 1, 1), r">= the window; got \(3, 4, 1\), window 2"),
        (max_pool, ((1, 3, 4, 1), 2, 1, 3), r"got .* stride 1, dilation 3\."),
        (max_pool, ((1, 3, 4, 1), 2, 0, 1), r"stride 0, dilation 1\."),
        (max_pool_with_indices, ((3, 4, 1), (2, 2), (2, 2)), r">= the window; got \(3, 4, 1\)"),
        (max_pool_with_indices, ((1, 3, 4, 1), (4, 2), (2, 2)), r"got .* window \(4, 2\)"),
        (max_pool_with_indices, ((1, 3, 4, 1), 2, (0, 2)), r"strides .* got \(0, 2\)"),
        (max_unpool, ((1, 2, 2, 1), (1, 2, 1, 1), (4, 4)), r"integers of that shape; got"),
        (max_unpool, ((1, 2, 2, 1), (1, 2, 2, 1), (1, 4)), r"never smaller; got \(1, 4\) from"),
    ],
)
def test_refuses(function, arguments, message):
    x, *others = arguments
    if function is max_unpool:
        others[0] = np.zeros(others[0], np.int32)
    with pytest.raises(ValueError, match=message):
        function(np.zeros(x, np.float32), *others)
