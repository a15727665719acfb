import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from support import equal
from zoo.losses.arcface import arcface
from zoo.losses.reduce import mean

B, D, K = 9, 4, 5
LABELS = np.array([0, 4, 2, 2, 1, 0, 4, 4, 2], np.int32)  # Nobody is of class 3.


def example(seed=0):
    """Embeddings and centres of any length; the last embedding nearly opposite its centre."""
    rng = np.random.default_rng(seed)
    x, centres = rng.normal(size=(B, D)), rng.normal(0, 0.1, (K, D))
    x[-1] = -centres[LABELS[-1]] + rng.normal(0, 0.01, D)
    return x.astype(np.float32), centres.astype(np.float32)


def loop(x, centres, labels, margin=0.5, scale=16.0):
    """Eq. 3 of the paper, one embedding after the other, with the angle itself."""
    total = 0.0
    for i in range(len(x)):
        cosines = [
            (x[i] @ c) / (np.linalg.norm(x[i]) * np.linalg.norm(c)) for c in np.float64(centres)
        ]
        angle = np.arccos(cosines[labels[i]])
        if angle < np.pi - margin:
            cosines[labels[i]] = np.cos(angle + margin)
        else:
            cosines[labels[i]] -= margin * np.sin(margin)
        total -= scale * cosines[labels[i]] - np.log(sum(np.exp(scale * c) for c in cosines))
    return total / len(x)


def slope(function, x, step=1e-6):
    """The gradient in float64, by central differences."""
    x, gradient = np.float64(x), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        gradient[i] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


def loss(x, centres, labels, valid=None, margin=0.5, scale=16.0):
    return mean(*arcface(x, centres, labels, margin=margin, scale=scale, valid=valid))


@functools.cache
def reference(margin=0.5):
    x, centres = np.float64(example()[0]), np.float64(example()[1])
    return (
        loop(x, centres, LABELS, margin),
        slope(lambda x: loop(x, centres, LABELS, margin), x),
        slope(lambda c: loop(x, c, LABELS, margin), centres, 1e-7),
    )


@functools.cache
def compiled():
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.5])
def test_matches_a_loop(margin):
    run = jax.jit(jax.value_and_grad(functools.partial(loss, margin=margin), argnums=(0, 1)))
    value, gradients = run(*example(), LABELS)
    equal(value, reference(margin)[0])
    equal(gradients[0], reference(margin)[1])
    equal(gradients[1], reference(margin)[2])


def test_margin_0_is_the_normalised_softmax():
    x, centres = (np.float64(v) / np.linalg.norm(v, axis=1, keepdims=True) for v in example())
    logits = 16 * x @ centres.T
    want = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(B), LABELS]
    values, weights = arcface(*example(), LABELS, margin=0.0, scale=16.0)
    equal(values, want)
    np.testing.assert_array_equal(weights, np.ones(B))


def test_matches_pytorch_metric_learning_on_50_batches(peer):
    # Theirs takes degrees and holds the centres, as columns. Both normalise, as the paper does,
    # and both go on alike beyond pi - margin; the mean is over the batch.
    torch = peer("torch")
    rng = np.random.default_rng(1)
    b, d, k = 32, 8, 12
    reference = peer("pytorch_metric_learning.losses").ArcFaceLoss(
        num_classes=k, embedding_size=d, margin=math.degrees(0.5), scale=64
    )
    centres = rng.normal(size=(50, k, d)).astype(np.float32)
    labels = rng.integers(0, k, (50, b)).astype(np.int32)
    x = rng.normal(size=(50, b, d))
    # A part of each batch lies near its centre, and a part opposite.
    own = np.take_along_axis(centres, labels[..., None], axis=1)
    x[:, :8] = 0.1 * x[:, :8] + own[:, :8]
    x[:, 8:12] = 0.1 * x[:, 8:12] - own[:, 8:12]
    x = x.astype(np.float32)
    function = jax.value_and_grad(functools.partial(loss, scale=64.0), argnums=(0, 1))
    value, gradients = jax.jit(jax.vmap(function))(x, centres, labels)
    for i in range(50):
        theirs = torch.tensor(x[i], dtype=torch.float64, requires_grad=True)
        reference.W = torch.nn.Parameter(torch.tensor(centres[i].T, dtype=torch.float64))
        want = reference(theirs, torch.from_numpy(labels[i]).long())
        want.backward()
        equal(value[i], want.item())
        equal(gradients[0][i], theirs.grad.numpy())
        equal(gradients[1][i], reference.W.grad.numpy().T)


@pytest.mark.parametrize("angle", [1e-6, 1e-4, 1e-2, 1.0, 2.6, 2.7, np.pi - 1e-2, np.pi - 1e-4])
def test_small_and_large_angles_keep_their_digits(angle):
    # In the plane all is known: the loss of an embedding at this angle to its centre, the other
    # centre at 0.6, and its gradient, d loss / d angle along the tangent.
    x = np.array([[np.cos(angle), np.sin(angle)]])
    cos, sin, label = np.cos, np.sin, np.zeros(1, np.int32)
    centres = np.array([[1, 0], [cos(0.6), sin(0.6)]], np.float32)
    if angle < np.pi - 0.5:
        target, rate = cos(angle + 0.5), -sin(angle + 0.5)
    else:
        target, rate = cos(angle) - 0.5 * sin(0.5), -sin(angle)
    gap = 16 * (cos(angle - 0.6) - target)  # Of the other logit above the label's.
    run = compiled()
    value, gradients = run(x.astype(np.float32), centres, label)
    equal(value, np.log1p(np.exp(gap)))
    along = 16 * (-sin(angle - 0.6) - rate) / (1 + np.exp(-gap))
    equal(gradients[0][0], along * np.array([-sin(angle), cos(angle)]))


def test_exactly_at_the_centre_and_opposite():
    run = compiled()
    centres = np.eye(K, D, dtype=np.float32) + 0.1
    for sign in (1, -1):
        for scale in (1e-20, 1.0, 1e18):
            x = centres[LABELS] * np.float32(sign * scale)
            value, gradients = run(x, centres, LABELS)
            with np.errstate(invalid="ignore"):
                cosines = np.clip(
                    np.float64(x / scale)
                    @ centres.T.astype(np.float64)
                    / np.linalg.norm(centres[LABELS].astype(np.float64), axis=1)[:, None]
                    / np.linalg.norm(centres.astype(np.float64), axis=1),
                    -1,
                    1,
                )
            at = np.arange(B), LABELS
            cosines[at] = np.cos(0.5) if sign > 0 else -1 - 0.5 * np.sin(0.5)
            want = np.log(np.exp(16 * cosines).sum(1)) - 16 * cosines[at]
            equal(value, want.mean())
            assert all(np.isfinite(g).all() for g in gradients)


def test_the_length_of_an_embedding_does_not_matter():
    x, centres = example()
    for scale in (1e-20, 1e18):
        value, gradients = compiled()(x * np.float32(scale), centres, LABELS)
        equal(value, reference()[0])
        equal(gradients[0] * np.float64(scale), reference()[1])
        equal(gradients[1], reference()[2])


def test_zeros_have_gradient_0():
    x, centres = example()
    x[1] = 0
    value, gradients = compiled()(x, centres, LABELS)
    assert np.isfinite(value) and not gradients[0][1].any()
    assert all(np.isfinite(g).all() for g in gradients)
    value, gradients = compiled()(x, np.zeros_like(centres), LABELS)
    assert np.isfinite(value) and not gradients[1].any() and np.abs(gradients[0]).max() < 1e-5
    value, gradients = compiled()(np.zeros_like(x), np.zeros_like(centres), LABELS)
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("filling", [np.nan, np.inf, 7.0])
def test_padding_has_no_influence(filling):
    valid = np.arange(B + 3) % 4 != 1
    x, centres = example()
    padded, labels = np.full((B + 3, D), filling, np.float32), np.full(B + 3, -1, np.int32)
    padded[valid], labels[valid] = x, LABELS
    value, gradients = compiled()(padded, centres, labels, valid)
    equal(value, reference()[0])
    equal(gradients[0][valid], reference()[1])
    equal(gradients[1], reference()[2])
    assert not gradients[0][~valid].any()
    value, gradients = compiled()(padded, centres, labels, np.zeros_like(valid))
    assert value == 0 and not any(g.any() for g in gradients)


def test_eight_devices_are_one():
    """Each with its rows and all the centres, unequally many of them padding."""
    rows, whole = PartitionSpec("devices"), PartitionSpec()

    def step(x, centres, labels, valid):
        def sums(x, centres):
            values, weights = arcface(x, centres, labels, margin=0.5, scale=16.0, valid=valid)
            return values.sum(), weights.sum()

        value, pull, weight = jax.vjp(sums, x, centres, has_aux=True)
        value, weight = (jax.lax.psum(s, "devices") for s in (value, weight))
        of_x, of_centres = pull(jnp.ones(()) / weight)
        return value / weight, of_x, jax.lax.psum(of_centres, "devices")

    mesh = jax.make_mesh((8,), ("devices",), axis_types=(AxisType.Auto,))
    specs = {"in_specs": (rows, whole, rows, rows), "out_specs": (whole, rows, whole)}
    run = jax.jit(jax.shard_map(step, mesh=mesh, check_vma=False, **specs))
    x, labels = np.full((16, D), np.nan, np.float32), np.full(16, -1, np.int32)
    valid = np.isin(np.arange(16), [0, 1, 2, 3, 5, 8, 9, 10, 12])  # Devices 3 and 7 have none.
    x[valid], labels[valid] = example()[0], LABELS
    value, of_x, of_centres = run(x, example()[1], labels, valid)
    equal(value, reference()[0])
    equal(of_x[valid], reference()[1])
    equal(of_centres, reference()[2])
    assert not of_x[~valid].any()


def test_one_embedding_one_class_and_duplicates():
    x, centres = example()
    for rows, classes in ((slice(1), K), (slice(B), 1), ([2] * B, K)):
        labels = np.minimum(LABELS[rows], classes - 1)
        value, gradients = compiled()(x[rows], centres[:classes], labels)
        # With one class alone there is nothing to choose: loss 0.
        assert abs(value - loop(np.float64(x[rows]), centres[:classes], labels)) < 1e-5 * 16
        assert all(np.isfinite(g).all() for g in gradients)


def test_bfloat16_is_summed_in_float32():
    coarse = [jnp.asarray(v, jnp.bfloat16) for v in example()]
    value, gradients = compiled()(*coarse, LABELS)
    x, centres = map(np.float64, coarse)
    assert value.dtype == jnp.float32
    equal(value, loop(x, centres, LABELS))
    wanted = (
        slope(lambda x: loop(x, centres, LABELS), x),
        slope(lambda c: loop(x, c, LABELS), centres, 1e-7),
    )
    for got, want in zip(gradients, wanted, strict=True):
        assert got.dtype == jnp.bfloat16
        equal(np.float64(got), want, 2**-8)


@pytest.mark.parametrize("unknown", [-1, K, np.iinfo(np.int32).max])
def test_an_unknown_label_is_refused_or_nan(unknown):
    labels = LABELS.copy()
    labels[3] = unknown
    with pytest.raises(ValueError, match=rf"0\.\.4; got {unknown}\."):
        arcface(*example(), labels)
    for array in jax.jit(arcface)(*example(), labels):
        np.testing.assert_array_equal(np.isnan(array), np.arange(B) == 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 28.6}, r"\[0, pi\) radians, see math.radians; got 28.6"),
        ({"margin": -0.1}, "got -0.1"),
        ({"margin": np.nan}, "got nan"),
        ({"scale": 0.0}, "scale must be > 0; got 0.0"),
        ({"labels": LABELS[:5]}, r"got \(9, 4\) and \(5,\)"),
        ({"labels": LABELS * 1.0}, "labels must be integers .*; got float64"),
        ({"labels": LABELS.astype(np.int64) + 2**32}, "labels must fit int32; got "),
        ({"centres": np.ones((K, D + 1), np.float32)}, r"got \(9, 4\) and \(5, 5\)"),
        ({"embeddings": np.ones(D, np.float32)}, r"centres \[k, d\]"),
        ({"valid": np.ones(3, bool)}, r"\(9,\); got bool \(3,\)"),
    ],
)
def test_refuses(change, message):
    x, centres = example()
    with pytest.raises(ValueError, match=message):
        arcface(**{"embeddings": x, "centres": centres, "labels": LABELS, **change})


@pytest.mark.parametrize("where", ["embeddings", "centres"])
def test_nan_is_seen(where):
    """A row of its own, or a centre, which all are compared with."""
    x, centres = example()
    given = {"embeddings": x.copy(), "centres": centres.copy()}
    given[where][0] = np.nan
    values, _ = jax.jit(arcface)(**given, labels=LABELS)
    assert np.isnan(values[0]) and (where == "embeddings" or np.isnan(values).all())
