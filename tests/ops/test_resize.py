import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.resize import resize_logits

RNG = np.random.default_rng(0)
SIZES = [
    ((5, 7), (5, 7)),
    ((5, 7), (20, 11)),
    ((36, 48), (9, 100)),
    ((1, 1), (3, 4)),
    ((9, 4), (1, 1)),
]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_matches_torch_in_value_and_gradient(variant, peer, before, after):
    torch = peer("torch")
    x = RNG.normal(size=(2, *before, 3)).astype(np.float32)
    theirs = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    want = torch.nn.functional.interpolate(
        theirs, size=after, mode="bilinear", align_corners=False
    ).permute(0, 2, 3, 1)
    resize = variant(functools.partial(resize_logits, size=after))
    np.testing.assert_allclose(resize(x), want.detach().numpy(), atol=1e-5)
    cotangent = RNG.normal(size=want.shape).astype(np.float32)
    want.backward(torch.tensor(cotangent))
    got = variant(jax.grad(lambda x: jnp.sum(resize_logits(x, after) * cotangent)))(x)
    np.testing.assert_allclose(got, theirs.grad.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_doubling_by_hand():
    x = jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(resize_logits(x, (1, 4)).ravel(), [0, 1, 3, 4])


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_strips_make_the_whole(before, after):
    x = RNG.normal(size=(1, *before, 3)).astype(np.float32)
    cuts = [0, after[0] // 3, after[0] // 2, after[0]]
    parts = [resize_logits(x, after, rows=rows) for rows in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts, 1), resize_logits(x, after))


def test_gives_float32_and_refuses_impossible_sizes():
    x = jnp.ones((1, 2, 2, 3), jnp.bfloat16)
    assert resize_logits(x, (4, 4)).dtype == jnp.float32
    for size, rows in (((0, 4), None), ((4, 4), (2, 5)), ((4, 4), (3, 2))):
        with pytest.raises(ValueError, match="rows within it"):
            resize_logits(x, size, rows=rows)
    with pytest.raises(ValueError, match=r"logits \[b, h, w, k\].*got \(2, 2, 3\)"):
        resize_logits(x[0], (4, 4))
