import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal
from zoo.losses import lovasz_softmax, mean

K = 5


def example(seed=0, b=3):
    """Logits [b, 4, 5, K] and labels with a fifth void; no class 4 anywhere, in image 1 no 2."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (b, 4, 5)).astype(np.int32)
    labels[1][labels[1] == 2] = 0
    labels[rng.random(labels.shape) < 0.2] = 255
    return rng.normal(0, 2, (b, 4, 5, K)).astype(np.float32), labels


def jaccard_loss(truth, mispredicted):
    """Eq. 6, of two sets of pixels."""
    return len(mispredicted) / len(truth | mispredicted) if mispredicted else 0.0


def image_loss(logits, labels):
    """Eq. 8, 9 and 11 for one image, in float64: the set function at each prefix of the order."""
    pixels = [(x, y) for x, y in zip(logits.reshape(-1, K), labels.ravel(), strict=True)]
    pixels = [(np.exp(x) / np.exp(x).sum(), y) for x, y in pixels if y != 255]
    losses = []
    for c in {y for _, y in pixels}:
        truth = {i for i, (_, y) in enumerate(pixels) if y == c}
        errors = [1 - p[c] if y == c else p[c] for p, y in pixels]
        order = sorted(range(len(pixels)), key=lambda i: -errors[i])
        sets = [jaccard_loss(truth, set(order[:n])) for n in range(len(order) + 1)]
        losses.append(sum(errors[i] * (sets[n + 1] - sets[n]) for n, i in enumerate(order)))
    return np.mean(losses)


def loop(logits, labels):
    return np.mean([image_loss(*both) for both in zip(logits, labels, strict=True)])


def slope(function, x, step=1e-6):
    """The gradient in float64, by central differences."""
    x, gradient = np.float64(x), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        gradient[i] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


def loss(logits, labels):
    values, weights = lovasz_softmax(logits, labels)
    return mean(values, weights), (values, weights)


SLOPES = jax.value_and_grad(loss, has_aux=True)
RUN = jax.jit(SLOPES)


def test_matches_the_definition(variant):
    logits, labels = example()
    (value, (values, weights)), gradient = variant(SLOPES)(logits, labels)
    equal(value, loop(np.float64(logits), labels))
    want = [image_loss(*both) for both in zip(np.float64(logits), labels, strict=True)]
    np.testing.assert_allclose(values, want, rtol=1e-5)
    np.testing.assert_array_equal(weights, np.ones(3))
    equal(gradient, slope(functools.partial(loop, labels=labels), logits))


def test_matches_segmentation_models(peer):
    losses, torch = peer("segmentation_models_pytorch").losses, peer("torch")
    logits, labels = example(1)
    # It cannot take float64. Its default is one order for the pixels of the whole batch.
    theirs = torch.from_numpy(logits).permute(0, 3, 1, 2).requires_grad_()
    function = losses.LovaszLoss("multiclass", per_image=True, ignore_index=255)
    want = function(theirs, torch.from_numpy(labels).long())
    want.backward()
    (value, _), gradient = RUN(logits, labels)
    equal(value, want.item())
    equal(gradient, theirs.grad.permute(0, 2, 3, 1).numpy())


def test_the_gradient_of_many_pixels_keeps_its_digits():
    """Of 4096 pixels each adds about 1 / 4096: float32 has to be told what, not by a difference.

    Two classes with logits 0 and x have equal errors; these lie apart, so float32 sorts them, too.
    """
    x = np.linspace(-3, 3.999, 4096).astype(np.float32)
    y = np.random.default_rng(0).random(4096) < 0.5
    p = 1 / (1 + np.exp(-np.float64(x)))
    order = np.argsort(-np.where(y, 1 - p, p))
    assert -np.diff(np.where(y, 1 - p, p)[order]).max() > 1e-6
    want = np.zeros(4096)
    for truth in (y, ~y):
        unions = truth.sum() + np.cumsum(~truth[order])
        want[order] += np.diff(np.arange(1, 4097) / unions, prepend=0) / 2
    want *= np.where(y, -1, 1) * p * (1 - p)
    logits = np.stack([np.zeros_like(x), x], axis=-1).reshape(1, 64, 64, 2)
    _, gradient = RUN(logits, y.reshape(1, 64, 64).astype(np.int32))
    np.testing.assert_allclose(gradient[..., 1].ravel(), want, rtol=1e-5)


def test_hard_predictions_cost_the_jaccard_loss():
    """The extension equals the set function on sets; a hand count, the last pixel void."""
    logits = np.float32(1e4) * np.eye(3, dtype=np.float32)[[[[0, 2, 1, 1, 2]]]]
    values, _ = lovasz_softmax(logits, np.array([[[0, 1, 1, 0, 255]]]))
    # Class 0: 1 of 2 right, nothing wrongly given. Class 1: 1 right in a union of 3. No class 2.
    np.testing.assert_allclose(values, [(1 / 2 + 2 / 3) / 2], rtol=1e-6)


def test_void_takes_no_part():
    logits, labels = example()
    holed = np.where((labels == 255)[..., None], np.float32(np.nan), logits)
    (_, want), want_gradient = RUN(logits, labels)
    (_, got), gradient = RUN(holed, labels)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(gradient, want_gradient)
    assert not gradient[labels == 255].any() and gradient.any()


def test_all_void_is_zero_with_zero_gradient():
    logits, labels = example()
    (value, _), gradient = RUN(np.full_like(logits, np.nan), np.full_like(labels, 255))
    assert value == 0 and not gradient.any()
    labels[2] = 255  # One image alone.
    (value, (values, weights)), gradient = RUN(logits, labels)
    np.testing.assert_array_equal(weights, [1, 1, 0])
    assert values[2] == 0 and not gradient[2].any() and np.isfinite(gradient).all()
    equal(value, loop(np.float64(logits[:2]), labels[:2]))


def test_a_perfect_prediction_costs_nothing_and_the_opposite_all():
    _, labels = example()
    hit = labels[..., None] == np.arange(K)
    (value, _), gradient = RUN(np.where(hit, 30, -30).astype(np.float32), labels)
    assert 0 <= value <= 1e-6 and np.abs(gradient).max() <= 1e-6
    (value, _), gradient = RUN(np.where(hit, -1e4, 1e4).astype(np.float32), labels)
    np.testing.assert_allclose(value, 1, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_equal_errors_in_any_order_cost_the_same():
    labels = np.arange(20, dtype=np.int32).reshape(1, 4, 5) % K
    zeros = np.zeros((1, 4, 5, K), np.float32)
    (value, _), gradient = RUN(zeros, labels)
    np.testing.assert_allclose(value, loop(np.float64(zeros), labels), rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_one_pixel():
    """Of two classes with equal logits: an error of 1/2, whose set costs 1."""
    values, weights = lovasz_softmax(np.zeros((1, 1, 1, 2), np.float32), np.ones((1, 1, 1), int))
    np.testing.assert_allclose(values, [0.5], rtol=1e-6)
    np.testing.assert_array_equal(weights, [1])


def test_bfloat16_logits_are_summed_in_float32():
    logits, labels = example()
    logits = jnp.asarray(logits, jnp.bfloat16)
    (value, (values, weights)), gradient = RUN(logits, labels)
    assert values.dtype == weights.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    equal(value, loop(np.float64(logits), labels))


def test_vmap_equals_a_loop_and_labels_cost_no_trace():
    traces = 0

    @jax.jit
    def run(logits, labels):
        nonlocal traces
        traces += 1
        return lovasz_softmax(logits, labels)

    batches = [example(seed) for seed in range(3)]
    want = [run(*batch) for batch in batches]
    assert traces == 1
    got = jax.vmap(lovasz_softmax)(*(np.stack(x) for x in zip(*batches, strict=True)))
    for g, w in zip(got, zip(*want, strict=True), strict=True):
        np.testing.assert_allclose(g, np.stack(w), rtol=1e-6)


@pytest.mark.parametrize("unknown", [-1, K, 254])
def test_an_unknown_label_is_refused_or_nan(unknown):
    logits, labels = example()
    (_, (want, _)), _ = RUN(logits, labels)
    labels[1, 2, 3] = unknown
    with pytest.raises(ValueError, match=rf"0\.\.4 or 255, which is void; got {unknown}\."):
        lovasz_softmax(logits, labels)
    (_, (values, weights)), _ = RUN(logits, labels)
    assert np.isnan(values[1]) and np.isnan(weights[1])
    np.testing.assert_array_equal(values[::2], want[::2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((3, 4, 6), np.int32)}, r"logits must be .* and \(3, 4, 6\)"),
        ({"logits": np.zeros((4, 5, K), np.float32)}, r"logits must be \[b, h, w, k"),
        ({"labels": np.zeros((3, 4, 5), np.float32)}, "labels must be integers; got float32"),
    ],
)
def test_refuses(change, message):
    logits, labels = example()
    with pytest.raises(ValueError, match=message):
        lovasz_softmax(**{"logits": logits, "labels": labels, **change})
