import jax
import numpy as np
import pytest
from flax import linen as nn

from zoo.ops.pool import max_pool_2x2


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


@pytest.mark.parametrize("shape", [(1, 3, 2, 1), (1, 2, 5, 1), (2, 2, 1)])
def test_max_pool_2x2_refuses(shape):
    with pytest.raises(ValueError, match=r"h and w even; got \("):
        max_pool_2x2(np.zeros(shape))
