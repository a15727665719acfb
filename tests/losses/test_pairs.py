import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal
from zoo.losses.pairs import contrastive, pair_cross_entropy
from zoo.losses.reduce import mean

B, D = 6, 4
SAME = np.array([1, 0, 1, 0, 0, 1], bool)


def example(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, B, D)).astype(np.float32) * 0.5


def cross_entropy_loop(logits, same):
    """Value and gradient of the mean, one pair after the other."""
    p = [1 / (1 + np.exp(-float(x))) for x in logits]
    value = -np.mean([np.log(q if s else 1 - q) for q, s in zip(p, same, strict=True)])
    return value, (np.array(p) - same) / len(p)


def contrastive_loop(x, y, same, margin):
    value, gradient = 0.0, np.zeros((2, *x.shape))
    for i, (a, b) in enumerate(zip(np.float64(x), np.float64(y), strict=True)):
        d = np.linalg.norm(a - b)
        if same[i]:
            value += d**2 / 2
            slope = a - b
        else:
            value += max(margin - d, 0) ** 2 / 2
            slope = -max(margin - d, 0) * (a - b) / d
        gradient[:, i] = slope, -slope
    return value / len(x), gradient / len(x)


def contrastive_mean(pair, same, margin=1.0, valid=None):
    return mean(*contrastive(*pair, same, margin=margin, valid=valid))


def cross_entropy_mean(logits, same, valid=None):
    return mean(*pair_cross_entropy(logits, same, valid=valid))


CONTRASTIVE = jax.jit(jax.value_and_grad(contrastive_mean))
CROSS_ENTROPY = jax.jit(jax.value_and_grad(cross_entropy_mean))


@pytest.mark.parametrize("margin", [0.0, 1.0, 3.0])
def test_contrastive_matches_a_loop(variant, margin):
    pair = example()
    loss = functools.partial(contrastive_mean, margin=margin)
    value, gradient = variant(jax.value_and_grad(loss))(pair, SAME)
    want_value, want_gradient = contrastive_loop(*pair, SAME, margin)
    equal(value, want_value)
    equal(gradient, want_gradient)


def test_cross_entropy_matches_a_loop(variant):
    logits = example()[0, :, 0] * 5
    value, gradient = variant(jax.value_and_grad(cross_entropy_mean))(logits, SAME)
    want_value, want_gradient = cross_entropy_loop(logits, SAME)
    equal(value, want_value)
    equal(gradient, want_gradient)


def test_contrastive_matches_the_paper_in_torch_on_50_batches(peer):
    # pytorch-metric-learning's ContrastiveLoss is no reference: it squares neither distance nor
    # hinge, and takes the mean over pairs of positive loss, of matching and others apart. So the
    # paper's equation, in torch.
    torch = peer("torch")
    rng = np.random.default_rng(1)
    pairs = rng.normal(0, 0.4, (50, 2, 32, 8)).astype(np.float32)
    same = rng.random((50, 32)) < 0.5
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(contrastive_mean)))(pairs, same)
    active = 0
    for i in range(50):
        theirs = torch.tensor(pairs[i], dtype=torch.float64, requires_grad=True)
        y = 1 - torch.from_numpy(same[i]).double()
        d = (theirs[0] - theirs[1]).norm(dim=1)
        hinge = torch.clamp(1.0 - d, min=0)
        want = ((1 - y) * d**2 / 2 + y * hinge**2 / 2).mean()
        want.backward()
        active += int(((hinge > 0) & (y > 0)).sum())
        equal(value[i], want.item())
        equal(gradient[i], theirs.grad.numpy())
    assert 50 < active < 50 * 16, "The hinge must be seen on both sides."


def test_cross_entropy_matches_torch_on_50_batches(peer):
    torch = peer("torch")
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 4, (50, 32)).astype(np.float32)
    same = rng.random((50, 32)) < 0.5
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(cross_entropy_mean)))(logits, same)
    for i in range(50):
        theirs = torch.tensor(logits[i], dtype=torch.float64, requires_grad=True)
        target = torch.from_numpy(same[i]).double()
        want = torch.nn.functional.binary_cross_entropy_with_logits(theirs, target)
        want.backward()
        equal(value[i], want.item())
        equal(gradient[i], theirs.grad.numpy())


@pytest.mark.parametrize("filling", [np.nan, np.inf, 7.0])
def test_padding_has_no_influence(filling):
    pair, valid = example(), np.arange(B + 2) % 4 != 1
    padded = np.full((2, B + 2, D), filling, np.float32)
    same = np.zeros(B + 2, bool)
    padded[:, valid], same[valid] = pair, SAME
    value, gradient = CONTRASTIVE(padded, same, valid=valid)
    want_value, want_gradient = contrastive_loop(*pair, SAME, 1.0)
    equal(value, want_value)
    equal(gradient[:, valid], want_gradient)
    assert not gradient[:, ~valid].any()
    value, gradient = CROSS_ENTROPY(padded[0, :, 0], same, valid)
    want_value, want_gradient = cross_entropy_loop(pair[0, :, 0], SAME)
    equal(value, want_value)
    equal(gradient[valid], want_gradient)
    assert not gradient[~valid].any()
    value, gradient = CROSS_ENTROPY(padded[0, :, 0], same, np.zeros_like(valid))
    assert value == 0 and not gradient.any()


def test_corners_of_contrastive():
    run = CONTRASTIVE
    x = example()[0]
    # Identical: half the squared margin for each of the three that should part, no direction.
    for same_point in (x, np.zeros_like(x), x * 1e18):
        value, gradient = run(np.stack([same_point] * 2), SAME)
        np.testing.assert_allclose(value, 0.25, rtol=1e-6)
        assert not gradient.any()
    # Just on the margin: inactive.
    step = np.stack([np.zeros_like(x), np.eye(1, D, dtype=np.float32).repeat(B, axis=0)])
    value, gradient = run(step, np.zeros(B, bool))
    assert value == 0 and not gradient.any()
    for scale in (1e-20, 1e-18, 1e18):
        pair = example() * np.float32(scale)
        value, gradient = run(pair, SAME)
        want = contrastive_loop(*pair, SAME, 1.0)
        equal(value, want[0])
        equal(gradient, want[1])
    for margin in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="margin must be >= 0 and finite; got"):
            contrastive(*pair, SAME, margin=margin)
    poisoned = example()
    poisoned[0, 0, 0] = np.nan
    assert np.isnan(contrastive(*poisoned, SAME)[0][0])
    assert np.isnan(contrastive(*poisoned, ~SAME)[0][0])


def test_extreme_logits_are_finite():
    logits = np.array([1e4, -1e4, 1e4, -1e4, 0, 0], np.float32)
    value, gradient = CROSS_ENTROPY(logits, SAME)
    np.testing.assert_allclose(value, 2 * np.log(2) / 6, rtol=1e-6)
    np.testing.assert_allclose(gradient * 6, [0, 0, 0, 0, 0.5, -0.5])
    value, gradient = CROSS_ENTROPY(logits, ~SAME)
    np.testing.assert_allclose(value, (4e4 + 2 * np.log(2)) / 6, rtol=1e-6)
    np.testing.assert_allclose(gradient * 6, [1, -1, 1, -1, -0.5, 0.5])


def test_bfloat16_is_summed_in_float32():
    pair = jnp.asarray(example(), jnp.bfloat16)
    logits = pair[0, :, 0]
    for (value, gradient), want in (
        (CONTRASTIVE(pair, SAME), contrastive_loop(*np.float64(pair), SAME, 1.0)),
        (CROSS_ENTROPY(logits, SAME), cross_entropy_loop(np.float64(logits), SAME)),
    ):
        assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
        equal(value, want[0])
        equal(np.float64(gradient), want[1], 2**-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y, s: contrastive(x, y[:5], s), r"\(6, 4\) and \(5, 4\)"),
        (
            lambda x, y, s: contrastive(x, y, s, margin=-0.5),
            r"margin must be >= 0 and finite; got -0.5",
        ),
        (lambda x, y, s: contrastive(x, y, s, margin=np.nan), "got nan"),
        (lambda x, y, s: contrastive(x, y, s[:5]), r"one a pair, \(6,\); got \(5,\)"),
        (lambda x, y, s: contrastive(x, y, s, valid=s[:5]), r"one a row, \(6,\); got bool \(5,\)"),
        (lambda x, y, s: contrastive(x, y, s, valid=0.3 * s), "valid must be bool.*got float64"),
        (lambda x, y, s: contrastive(x, y, s * 0.9), "bool, not float64: pass `same > 0.5`"),
        (lambda x, y, s: pair_cross_entropy(x, s), r"logits \[b\], one a pair; got \(6, 4\)"),
        (lambda x, y, s: pair_cross_entropy(x[:, 0], s[:5]), r"one a pair, \(6,\); got \(5,\)"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call(*example(), SAME)
