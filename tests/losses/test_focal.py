import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal
from zoo.losses import focal, mean, pixel_cross_entropy

K = 4
WEIGHTS = (0.5, 2.0, 0.0, 3.0)


def example(seed=0, k=K):
    """Logits [2, 4, 5, k] and labels with a fifth of the pixels void."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, (2, 4, 5)).astype(np.int32)
    labels[rng.random(labels.shape) < 0.2] = 255
    return rng.normal(0, 2, (2, 4, 5, k)).astype(np.float32), labels


def loop(logits, labels, gamma, weights):
    """Eq. 5, one pixel after the other in float64."""
    value = weight = 0.0
    for x, y in zip(logits.reshape(-1, K), labels.ravel(), strict=True):
        if y != 255:
            p = np.exp(x[y]) / np.exp(x).sum()
            value -= weights[y] * (1 - p) ** gamma * np.log(p)
            weight += weights[y]
    return value / weight


def slope(function, x, step=1e-6):
    """The gradient in float64, by central differences."""
    x, gradient = np.float64(x), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        gradient[i] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


def loss(logits, labels, gamma=2.0, class_weights=None):
    return mean(*focal(logits, labels, gamma=gamma, class_weights=class_weights))


@functools.cache
def slopes(gamma=2.0):
    return jax.jit(jax.value_and_grad(functools.partial(loss, gamma=gamma)))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_matches_a_loop(variant, gamma, weights):
    logits, labels = example()
    run = variant(jax.value_and_grad(functools.partial(loss, gamma=gamma, class_weights=weights)))
    value, gradient = run(logits, labels)
    weights = np.ones(K) if weights is None else weights
    reference = functools.partial(loop, labels=labels, gamma=gamma, weights=weights)
    equal(value, reference(np.float64(logits)))
    equal(gradient, slope(reference, logits))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_matches_segmentation_models(peer, gamma):
    """Its class has the sigmoid, ours of two classes with logits 0 and x; alpha is class 1's."""
    losses, torch = peer("segmentation_models_pytorch").losses, peer("torch")
    logits, labels = example(k=2)
    logits[..., 0] = 0
    theirs = torch.from_numpy(np.float64(logits[..., 1])).requires_grad_()
    function = losses.FocalLoss("binary", alpha=0.25, gamma=gamma, ignore_index=255)
    want = function(theirs, torch.from_numpy(labels))
    want.backward()

    def plain(logits, labels):
        values, _ = focal(logits, labels, gamma=gamma, class_weights=(0.75, 0.25))
        return values.sum() / (labels != 255).sum()  # It divides by the pixels, not the weights.

    value, gradient = jax.jit(jax.value_and_grad(plain))(logits, labels)
    equal(value, want.item())
    equal(gradient[..., 1], theirs.grad.numpy())


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_matches_the_softmax_of_segmentation_models(peer, gamma):
    """The class of this name is one sigmoid a class; this function beside it has the softmax."""
    functional = peer("segmentation_models_pytorch.losses._functional")
    torch = peer("torch")
    logits, labels = example()
    valid = labels != 255  # It knows no void.
    theirs = torch.from_numpy(np.float64(logits[valid])).requires_grad_()
    target = torch.from_numpy(labels[valid]).long()
    want = functional.softmax_focal_loss_with_logits(theirs, target, gamma=gamma)
    want.backward()
    value, gradient = slopes(gamma)(logits, labels)
    equal(value, want.item())
    equal(gradient[valid], theirs.grad.numpy())


def test_gamma_zero_is_cross_entropy(variant):
    logits, labels = example()
    got = variant(functools.partial(focal, gamma=0.0, class_weights=WEIGHTS))(logits, labels)
    want = pixel_cross_entropy(logits, labels, class_weights=WEIGHTS)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-6)


def test_void_takes_no_part():
    logits, labels = example()
    holed = np.where((labels == 255)[..., None], np.float32(np.nan), logits)
    value, gradient = slopes()(holed, labels)
    want, want_gradient = slopes()(logits, labels)
    assert value == want
    np.testing.assert_array_equal(gradient, want_gradient)
    assert not gradient[labels == 255].any() and gradient.any()
    values, weights = focal(holed, labels)
    np.testing.assert_array_equal(weights, labels != 255)
    assert not values[labels == 255].any()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_all_void_is_zero_with_zero_gradient(gamma):
    logits, labels = example()
    value, gradient = slopes(gamma)(np.full_like(logits, np.nan), np.full_like(labels, 255))
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_perfect_prediction_costs_nothing_and_the_opposite_is_finite(gamma):
    """At p = 1 the power's own gradient is infinite for a gamma below 1."""
    _, labels = example()
    hit = labels[..., None] == np.arange(K)
    value, gradient = slopes(gamma)(np.where(hit, 30, -30).astype(np.float32), labels)
    assert value == 0 and not gradient.any()
    value, gradient = slopes(gamma)(np.where(hit, -1e4, 1e4).astype(np.float32), labels)
    np.testing.assert_allclose(value, 2e4 + np.log(K - 1), rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_one_pixel():
    """Of two classes with equal logits: 1/4 of log 2."""
    values, weights = focal(np.zeros((1, 1, 1, 2), np.float32), np.ones((1, 1, 1), int))
    np.testing.assert_allclose(values, [[[np.log(2) / 4]]], rtol=1e-6)
    np.testing.assert_array_equal(weights, [[[1]]])


def test_bfloat16_logits_are_computed_in_float32():
    logits, labels = example()
    logits = jnp.asarray(logits, jnp.bfloat16)
    values, weights = focal(logits, labels)
    assert values.dtype == weights.dtype == jnp.float32
    equal(mean(values, weights), loop(np.float64(logits), labels, 2.0, np.ones(K)))


def test_vmap_equals_a_loop_and_labels_cost_no_trace():
    traces = 0

    @jax.jit
    def run(logits, labels):
        nonlocal traces
        traces += 1
        return focal(logits, labels)

    batches = [example(seed) for seed in range(3)]
    want = [run(*batch) for batch in batches]
    assert traces == 1
    got = jax.vmap(focal)(*(np.stack(x) for x in zip(*batches, strict=True)))
    for g, w in zip(got, zip(*want, strict=True), strict=True):
        np.testing.assert_allclose(g, np.stack(w), rtol=1e-6)


@pytest.mark.parametrize("unknown", [-1, K, 254])
def test_an_unknown_label_is_refused_or_nan(unknown):
    logits, labels = example()
    labels[0, 2, 3] = unknown
    with pytest.raises(ValueError, match=rf"0\.\.3 or 255, which is void; got {unknown}\."):
        focal(logits, labels)
    values, weights = jax.jit(focal)(logits, labels)
    assert np.isnan(values[0, 2, 3]) and np.isnan(weights[0, 2, 3])
    assert np.isnan(values).sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.zeros((2, 4, 6), np.int32)},
            r"logits must be .* and \(2, 4, 6\)",
        ),
        ({"logits": np.zeros((4, 5, K), np.float32)}, r"logits must be \[b, h, w, k\]"),
        ({"labels": np.zeros((2, 4, 5), np.float32)}, "labels must be integers; got float32"),
        ({"gamma": -1.0}, "gamma must be >= 0; got -1.0"),
        ({"class_weights": (1.0, 2.0)}, r"\(4,\) as the logits have; got \(2,\)"),
    ],
)
def test_refuses(change, message):
    logits, labels = example()
    with pytest.raises(ValueError, match=message):
        focal(**{"logits": logits, "labels": labels, **change})
