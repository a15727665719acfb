import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from support import equal
from zoo.losses import dice, jaccard, mean, overlap_loss, overlap_sums, tversky

K = 5
LOSSES = {"dice": dice, "jaccard": jaccard, "tversky": tversky}
WEIGHTS = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0), "tversky": (0.3, 0.7)}
PEERS = {"dice": "DiceLoss", "jaccard": "JaccardLoss", "tversky": "TverskyLoss"}
each_loss = pytest.mark.parametrize("name", LOSSES)


def example(seed=0, b=3):
    """Logits [b, 4, 5, K] and labels with a fifth void; no class 4 anywhere, in image 1 no 2."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (b, 4, 5)).astype(np.int32)
    labels[1][labels[1] == 2] = 0
    labels[rng.random(labels.shape) < 0.2] = 255
    return rng.normal(0, 2, (b, 4, 5, K)).astype(np.float32), labels


def loop(logits, labels, name, smooth):
    """The definitions, one pixel after the other in float64; the mean over classes with truth."""
    losses = []
    for image, truth in zip(logits, labels, strict=True):
        pixels = [(x, y) for x, y in zip(image.reshape(-1, K), truth.ravel(), strict=True)]
        pixels = [(np.exp(x) / np.exp(x).sum(), y) for x, y in pixels if y != 255]
        for c in {y for _, y in pixels}:
            p0 = [p[c] for p, _ in pixels]
            g0 = [float(y == c) for _, y in pixels]
            both = sum(p * g for p, g in zip(p0, g0, strict=True)) + smooth
            if name == "dice":
                index = 2 * both / (sum(p0) + sum(g0) + 2 * smooth)
            elif name == "jaccard":
                union = sum(p + g - p * g for p, g in zip(p0, g0, strict=True))
                index = both / (union + smooth)
            else:
                wrong = sum(p * (1 - g) for p, g in zip(p0, g0, strict=True))
                missed = sum((1 - p) * g for p, g in zip(p0, g0, strict=True))
                index = both / (both + 0.3 * wrong + 0.7 * missed)
            losses.append(1 - index)
    return np.mean(losses)


def slope(function, x, step=1e-6):
    """The gradient in float64, by central differences."""
    x, gradient = np.float64(x), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        gradient[i] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


def whole(logits, labels, name, smooth=0.0, ignore_label=255):
    """The loss of the batch as one picture."""
    sums = overlap_sums(logits, labels, ignore_label=ignore_label).sum(axis=0)
    alpha, beta = WEIGHTS[name]
    return mean(*overlap_loss(sums, alpha=alpha, beta=beta, smooth=smooth))


@functools.cache
def compiled(name):
    return jax.jit(LOSSES[name])


@functools.cache
def slopes(name):
    """Values, weights and the gradient of their mean."""

    def loss(logits, labels):
        values, weights = LOSSES[name](logits, labels)
        return mean(values, weights), (values, weights)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("smooth", [0.0, 1.5])
@each_loss
def test_matches_a_loop(variant, name, smooth):
    logits, labels = example()

    def loss(logits, labels):
        return mean(*LOSSES[name](logits, labels, smooth=smooth))

    value, gradient = variant(jax.value_and_grad(loss))(logits, labels)
    reference = functools.partial(loop, labels=labels, name=name, smooth=smooth)
    equal(value, reference(np.float64(logits)))
    equal(gradient, slope(reference, logits))


@pytest.mark.parametrize("smooth", [0.0, 1.5])
@each_loss
def test_over_a_batch_matches_segmentation_models(peer, name, smooth):
    losses, torch = peer("segmentation_models_pytorch").losses, peer("torch")
    logits, labels = example()
    theirs = torch.from_numpy(np.float64(logits)).permute(0, 3, 1, 2).requires_grad_()
    # Its alpha weighs what is wrongly given, too. The divisor's least value, eps, is never met.
    kinds = {"alpha": 0.3, "beta": 0.7} if name == "tversky" else {}
    peers = getattr(losses, PEERS[name])("multiclass", smooth=smooth, ignore_index=255, **kinds)
    want = peers(theirs, torch.from_numpy(labels).long())
    # It divides by all classes, also by class 4, which has no pixel and costs nothing there.
    want = want * K / (K - 1)
    want.backward()
    run = jax.jit(jax.value_and_grad(functools.partial(whole, name=name, smooth=smooth)))
    value, gradient = run(logits, labels)
    equal(value, want.item())
    equal(gradient, theirs.grad.permute(0, 2, 3, 1).numpy())


@each_loss
def test_eight_devices_are_one(name):
    """Sums cross the devices; each pulls its own gradient back from the loss of their total."""
    logits, labels = example(b=16)
    labels[:2] = 255  # The first device has nothing but void,
    labels[3] = 255  # the second one image,
    labels[4:6, 1:] = 255  # the third two rows.
    labels[6:][labels[6:] == 3] = 0  # And nobody else holds class 3.
    bias = np.linspace(-1, 1, K, dtype=np.float32)
    alpha, beta = WEIGHTS[name]

    def step(bias, logits, labels):
        def sums(bias, logits):
            return overlap_sums(logits + bias, labels).sum(axis=0)

        def loss(total):
            return mean(*overlap_loss(total, alpha=alpha, beta=beta))

        own, pull = jax.vjp(sums, bias, logits)
        value, slope = jax.value_and_grad(loss)(jax.lax.psum(own, "devices"))
        of_bias, of_logits = pull(slope)
        return value, jax.lax.psum(of_bias, "devices"), of_logits

    rows, same = PartitionSpec("devices"), PartitionSpec()
    on_eight = jax.shard_map(
        step,
        mesh=jax.make_mesh((8,), ("devices",), axis_types=(AxisType.Auto,)),
        in_specs=(same, rows, rows),
        out_specs=(same, same, rows),
        check_vma=False,
    )

    def one(bias, logits):
        return whole(logits + bias, labels, name)

    value, slopes = jax.jit(jax.value_and_grad(one, argnums=(0, 1)))(bias, logits)
    for got, want in zip(jax.jit(on_eight)(bias, logits, labels), (value, *slopes), strict=True):
        equal(np.asarray(got), np.asarray(want))


@each_loss
def test_a_class_without_truth_has_no_weight(name):
    logits, labels = example()
    values, weights = compiled(name)(logits, labels)
    want = [[c in truth for c in range(K)] for truth in labels]
    np.testing.assert_array_equal(weights, np.float32(want))
    assert not values[~np.array(want)].any() and not np.array(want)[1, 2]
    assert (values[np.array(want)] > 0).all() and (values <= 1).all()
    assert values.dtype == weights.dtype == jnp.float32


@each_loss
def test_void_takes_no_part(name):
    logits, labels = example()
    holed = np.where((labels == 255)[..., None], np.float32(np.nan), logits)
    (_, want), want_gradient = slopes(name)(logits, labels)
    (_, got), gradient = slopes(name)(holed, labels)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(gradient, want_gradient)
    assert not gradient[labels == 255].any() and gradient.any()


@each_loss
def test_all_void_is_zero_with_zero_gradient(name):
    logits, labels = example()
    (value, _), gradient = slopes(name)(np.full_like(logits, np.nan), np.full_like(labels, 255))
    assert value == 0 and not gradient.any()
    labels[2] = 255  # One image alone.
    (_, (values, weights)), gradient = slopes(name)(logits, labels)
    assert not values[2].any() and not weights[2].any() and not gradient[2].any()
    assert np.isfinite(gradient).all()


@each_loss
def test_a_perfect_prediction_costs_nothing_and_the_opposite_all(name):
    _, labels = example()
    hit = labels[..., None] == np.arange(K)
    (value, _), gradient = slopes(name)(np.where(hit, 30, -30).astype(np.float32), labels)
    assert 0 <= value <= 1e-6 and np.abs(gradient).max() <= 1e-6
    # Here p underflows to 0 at each pixel of the truth.
    (value, _), gradient = slopes(name)(np.where(hit, -1e4, 1e4).astype(np.float32), labels)
    assert value == 1 and np.isfinite(gradient).all()


@each_loss
def test_one_pixel(name):
    """Of two classes with equal logits: right is 1/2, wrong 0, missed 1/2."""
    values, weights = LOSSES[name](np.zeros((1, 1, 1, 2), np.float32), np.ones((1, 1, 1), int))
    beta = WEIGHTS[name][1]
    np.testing.assert_allclose(values, [[0, beta / (1 + beta)]], rtol=1e-6)
    np.testing.assert_array_equal(weights, [[0, 1]])


def test_sums_are_counts_of_pixels():
    """A hand count: hard logits, the second pixel wrong, the last void."""
    logits = np.float32(1e4) * np.eye(3, dtype=np.float32)[[[[0, 2, 1, 2]]]]
    sums = overlap_sums(logits, np.array([[[0, 1, 1, 255]]]))
    np.testing.assert_array_equal(sums, [[[1, 1, 0], [0, 0, 1], [0, 1, 0]]])


@each_loss
def test_bfloat16_logits_are_summed_in_float32(name):
    logits, labels = example()
    logits = jnp.asarray(logits, jnp.bfloat16)
    (value, (values, weights)), gradient = slopes(name)(logits, labels)
    assert values.dtype == weights.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    equal(value, loop(np.float64(logits), labels, name, 0.0))


@each_loss
def test_vmap_equals_a_loop_and_labels_cost_no_trace(name):
    traces = 0

    @jax.jit
    def run(logits, labels):
        nonlocal traces
        traces += 1
        return LOSSES[name](logits, labels)

    batches = [example(seed) for seed in range(3)]
    want = [run(*batch) for batch in batches]
    assert traces == 1
    got = jax.vmap(LOSSES[name])(*(np.stack(x) for x in zip(*batches, strict=True)))
    for g, w in zip(got, zip(*want, strict=True), strict=True):
        np.testing.assert_allclose(g, np.stack(w), rtol=1e-6)


def test_any_integer_type_and_any_void():
    logits, labels = example()
    want, _ = dice(logits, labels)
    np.testing.assert_array_equal(dice(logits, labels.astype(np.uint8))[0], want)
    moved = np.where(labels == 255, -1, labels)
    np.testing.assert_array_equal(dice(logits, moved, ignore_label=-1)[0], want)


@pytest.mark.parametrize("unknown", [-1, K, 254])
@each_loss
def test_an_unknown_label_is_refused_or_nan(name, unknown):
    logits, labels = example()
    want, _ = compiled(name)(logits, labels)
    labels[1, 2, 3] = unknown
    with pytest.raises(ValueError, match=rf"0\.\.4 or 255, which is void; got {unknown}\."):
        LOSSES[name](logits, labels)
    values, weights = compiled(name)(logits, labels)
    assert np.isnan(values[1]).all() and np.isnan(weights[1]).all()
    np.testing.assert_array_equal(values[::2], want[::2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.zeros((3, 4, 6), np.int32)},
            r"logits must be .* and \(3, 4, 6\)",
        ),
        ({"logits": np.zeros((4, 5, K), np.float32)}, r"logits must be \[b, h, w, k\]"),
        ({"labels": np.zeros((3, 4, 5), np.float32)}, "labels must be integers; got float32"),
        ({"alpha": -0.1}, "alpha must be >= 0; got -0.1"),
        ({"beta": 0.0}, "beta must be > 0; got 0.0"),
        ({"smooth": float("nan")}, "smooth must be >= 0; got nan"),
    ],
)
def test_refuses(change, message):
    logits, labels = example()
    with pytest.raises(ValueError, match=message):
        tversky(**{"logits": logits, "labels": labels, **change})


@pytest.mark.parametrize("shape", [(3,), (2, K), (3, K, 1)])
def test_refuses_sums_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"needs sums \[\.\.\., 3, k\] of overlap_sums; got \("):
        overlap_loss(np.ones(shape, np.float32), alpha=0.5, beta=0.5)
