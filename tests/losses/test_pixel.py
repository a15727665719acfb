import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.losses import mean, pixel_cross_entropy

K = 5
WEIGHTS = {
    "none": None,
    "plain": (0.5, 2.0, 1.0, 0.0, 3.0),
    "tiny": (1e-3, 1.0, 1e-3, 2.0, 1e-3),
}


def example(seed=0):
    """Logits [2, 7, 9, K] and labels with a tenth of the pixels void."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, (2, 7, 9)).astype(np.int32)
    labels[rng.random(labels.shape) < 0.1] = 255
    return rng.normal(0, 3, (2, 7, 9, K)).astype(np.float32), labels


def loop(logits, labels, weights, smoothing):
    """The definition, one pixel after the other in float64."""
    weights = np.ones(K) if weights is None else np.asarray(weights)
    value = weight = 0.0
    for x, y in zip(logits.reshape(-1, K).astype(np.float64), labels.ravel(), strict=True):
        if y == 255:
            continue
        cost = np.log(np.exp(x).sum()) - x
        value += (1 - smoothing) * weights[y] * cost[y] + smoothing / K * (weights * cost).sum()
        weight += weights[y]
    return value / weight


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_matches_torch_and_a_loop(variant, peer, weights, smoothing):
    torch = peer("torch")
    logits, labels = example()
    theirs = torch.from_numpy(logits).permute(0, 3, 1, 2).requires_grad_()
    want = torch.nn.functional.cross_entropy(
        theirs,
        torch.from_numpy(labels).long(),
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=255,
        label_smoothing=smoothing,
    )
    want.backward()

    def loss(logits, labels):
        options = {"class_weights": weights, "label_smoothing": smoothing}
        return mean(*pixel_cross_entropy(logits, labels, ignore_label=255, **options))

    value, gradient = variant(jax.value_and_grad(loss))(logits, labels)
    np.testing.assert_allclose(value, want.item(), rtol=1e-5)
    np.testing.assert_allclose(value, loop(logits, labels, weights, smoothing), rtol=1e-5)
    expected = theirs.grad.permute(0, 2, 3, 1).numpy()
    assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max()


def test_is_the_one_hot_form_of_the_lecture():
    logits, labels = example()
    labels[labels == 255] = 0
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    want = -(np.eye(K)[labels] * np.log(p)).sum(axis=-1)
    values, weights = pixel_cross_entropy(logits, labels)
    np.testing.assert_allclose(values, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(weights, np.ones_like(want))


def test_values_hold_their_weights_and_void_is_zero(variant):
    logits, labels = example()
    loss = functools.partial(pixel_cross_entropy, class_weights=WEIGHTS["plain"])
    values, weights = variant(loss)(logits, labels)
    void = labels == 255
    assert void.any() and not values[void].any() and not weights[void].any()
    want = np.array([*WEIGHTS["plain"], 0.0])[np.where(void, K, labels)]
    np.testing.assert_allclose(weights, want)
    plain, _ = variant(pixel_cross_entropy)(logits, labels)
    np.testing.assert_allclose(values, plain * weights, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_all_void_is_zero_with_zero_gradient(variant, smoothing):
    logits, labels = example()

    def loss(logits, labels):
        options = {"class_weights": WEIGHTS["tiny"], "label_smoothing": smoothing}
        return mean(*pixel_cross_entropy(logits, labels, **options))

    value, gradient = variant(jax.value_and_grad(loss))(logits, np.full_like(labels, 255))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


def test_extreme_logits_are_finite(variant):
    logits = np.array([1e4, -1e4, 0, 0, 0], np.float32).reshape(1, 1, 1, K)
    label = np.ones((1, 1, 1), np.int32)

    def loss(logits):
        return mean(*pixel_cross_entropy(logits, label))

    value, gradient = variant(jax.value_and_grad(loss))(logits)
    np.testing.assert_allclose(value, 2e4)
    np.testing.assert_allclose(gradient.ravel(), [1, -1, 0, 0, 0])


def test_bfloat16_logits_are_summed_in_float32(variant):
    logits, labels = example()
    logits = jnp.asarray(logits, jnp.bfloat16)
    values, weights = variant(pixel_cross_entropy)(logits, labels)
    assert values.dtype == weights.dtype == jnp.float32
    want = loop(np.asarray(logits, np.float32), labels, None, 0.0)
    np.testing.assert_allclose(mean(values, weights), want, rtol=1e-5)


def test_any_integer_type_and_any_void():
    logits, labels = example()
    want, _ = pixel_cross_entropy(logits, labels)
    got, _ = pixel_cross_entropy(logits, labels.astype(np.uint8))
    np.testing.assert_array_equal(got, want)
    moved = np.where(labels == 255, -1, labels)
    np.testing.assert_array_equal(pixel_cross_entropy(logits, moved, ignore_label=-1)[0], want)
    # A class may be void, too.
    _, weights = pixel_cross_entropy(logits, np.where(labels == 255, 2, labels), ignore_label=2)
    np.testing.assert_array_equal(weights, (labels != 255) & (labels != 2))


@pytest.mark.parametrize("unknown", [-1, K, 254])
def test_an_unknown_label_is_refused_or_nan(unknown):
    logits, labels = example()
    labels[0, 3, 4] = unknown
    with pytest.raises(ValueError, match=rf"0\.\.4 or 255, which is void; got {unknown}\."):
        pixel_cross_entropy(logits, labels)
    values, weights = jax.jit(pixel_cross_entropy)(logits, labels)
    assert np.isnan(values[0, 3, 4]) and np.isnan(weights[0, 3, 4])
    assert np.isnan(values).sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((2, 7, 8), np.int32)}, r"\(2, 7, 9, 5\) and \(2, 7, 8\)"),
        ({"logits": np.zeros((7, 9, K), np.float32)}, r"logits must be \[b, h, w, k\]"),
        ({"labels": np.zeros((2, 7, 9), np.float32)}, "labels must be integers; got float32"),
        ({"class_weights": (1.0, 1.0, -1.0, 1.0, 1.0)}, "class_weights must be >= 0; got -1.0"),
        ({"class_weights": (1.0, np.nan, 1.0, 1.0, 1.0)}, "class_weights must be >= 0; got nan"),
        ({"class_weights": (1.0, 2.0)}, r"\(5,\) as the logits have; got \(2,\)"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\); got 1.0"),
    ],
)
def test_refuses(change, message):
    logits, labels = example()
    with pytest.raises(ValueError, match=message):
        pixel_cross_entropy(**{"logits": logits, "labels": labels, **change})
