import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal
from zoo.losses.reduce import mean
from zoo.losses.triplet import triplet

B, D = 7, 4


def example(seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, (3, B, D)).astype(np.float32)


def loop(triplets, margin):
    """Value and gradient of the mean, one triplet after the other in float64."""
    value, gradient = 0.0, np.zeros(triplets.shape)
    for i, (a, p, n) in enumerate(np.float64(triplets).transpose(1, 0, 2)):
        cost = sum((a - p) ** 2) - sum((a - n) ** 2) + margin
        if cost > 0:
            value += cost
            gradient[:, i] = 2 * (n - p), 2 * (p - a), 2 * (a - n)
    b = triplets.shape[1]
    return value / b, gradient / b


def loss(triplets, margin=0.5, valid=None):
    return mean(*triplet(*triplets, margin=margin, valid=valid))


RUN = jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_matches_a_loop(variant, margin):
    run = variant(jax.value_and_grad(functools.partial(loss, margin=margin)))
    value, gradient = run(example())
    want_value, want_gradient = loop(example(), margin)
    inactive = ~want_gradient.any(axis=(0, 2))
    assert inactive.any() and not inactive.all()
    equal(value, want_value)
    equal(gradient, want_gradient)


def test_matches_pytorch_metric_learning_on_50_batches(peer):
    # Theirs with normalisation off, distances squared (power=2) and the mean over all triplets:
    # as they come, they normalise, do not square, and leave triplets of loss 0 out of the mean.
    torch = peer("torch")
    pml = peer("pytorch_metric_learning")
    b = 16
    reference = peer("pytorch_metric_learning.losses").TripletMarginLoss(
        margin=0.5,
        distance=pml.distances.LpDistance(normalize_embeddings=False, p=2, power=2),
        reducer=peer("pytorch_metric_learning.reducers").MeanReducer(),
    )
    rows = torch.arange(b)
    indices = rows, rows + b, rows + 2 * b
    batches = np.random.default_rng(1).normal(0, 0.5, (50, 3, b, 8)).astype(np.float32)
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(loss)))(batches)
    for i in range(50):
        theirs = torch.tensor(batches[i].reshape(3 * b, -1), dtype=torch.float64)
        want = reference(theirs.requires_grad_(), indices_tuple=indices)
        want.backward()
        equal(value[i], want.item())
        equal(gradient[i], theirs.grad.numpy().reshape(batches[i].shape))


@pytest.mark.parametrize("filling", [np.nan, np.inf, 7.0])
def test_padding_has_no_influence(filling):
    valid = np.arange(B + 3) % 3 != 1
    padded = np.full((3, B + 3, D), filling, np.float32)
    padded[:, valid] = example()
    value, gradient = RUN(padded, valid=valid)
    want_value, want_gradient = loop(example(), 0.5)
    equal(value, want_value)
    equal(gradient[:, valid], want_gradient)
    assert not gradient[:, ~valid].any()
    value, gradient = RUN(padded, valid=np.zeros_like(valid))
    assert value == 0 and not gradient.any()


def test_corners():
    run = RUN
    x = example()[0]
    for point in (x, np.zeros_like(x), x * 1e18, x * 1e-20):
        value, gradient = run(np.stack([point] * 3))
        assert value == 0.5 and np.isfinite(gradient).all()
    # Just on the margin, in numbers without rounding: |a - p|^2 = 0.5, |a - n|^2 = 1.
    edge = np.zeros((3, B, D), np.float32)
    edge[1, :, :2], edge[2, :, 0] = 0.5, 1.0
    value, gradient = run(edge)
    assert value == 0 and not gradient.any()
    edge[2, :, 0] = np.nextafter(np.float32(1), np.float32(0))
    value, gradient = run(edge)
    assert value > 0 and gradient.any()
    for scale in (1e-20, 1e18):
        value, gradient = run(example() * np.float32(scale))
        want_value, want_gradient = loop(example() * np.float32(scale), 0.5)
        equal(value, want_value)
        equal(gradient, want_gradient)


def test_margin_0_and_duplicates_is_0():
    same = np.stack([example()[0]] * 3)
    value, gradient = jax.jit(jax.value_and_grad(functools.partial(loss, margin=0.0)))(same)
    assert value == 0 and not gradient.any()


def test_bfloat16_is_summed_in_float32():
    triplets = jnp.asarray(example(), jnp.bfloat16)
    value, gradient = RUN(triplets)
    assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    want_value, want_gradient = loop(np.float64(triplets), 0.5)
    equal(value, want_value)
    equal(np.float64(gradient), want_gradient, 2**-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, p, n: triplet(a, p, n[:5], margin=1), r"\(7, 4\), \(7, 4\), \(5, 4\)"),
        (lambda a, p, n: triplet(a[0], p[0], n[0], margin=1), r"three embeddings of one \[b, d\]"),
        (lambda a, p, n: triplet(a, p, n, margin=1, valid=np.ones(6, bool)), r"one a row, \(7,\)"),
        (lambda a, p, n: triplet(a, p, n, margin=1, valid=np.ones(7)), "valid must be bool"),
        (lambda a, p, n: triplet(a, p, n, margin=-1), "margin must be >= 0 and finite; got -1"),
        (lambda a, p, n: triplet(a, p, n, margin=np.nan), "got nan"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call(*example())
