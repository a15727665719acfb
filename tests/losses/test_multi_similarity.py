import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal
from zoo.losses.multi_similarity import multi_similarity
from zoo.losses.reduce import mean

B, D = 12, 4
# A class of one, negative labels and both ends of int32 among them.
LOW, HIGH = np.iinfo(np.int32).min, np.iinfo(np.int32).max
LABELS = np.array([5, -1, 5, LOW, HIGH, -1, 5, HIGH, LOW, -1, 0, LOW], np.int32)


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def example(seed=0, b=B):
    return unit(np.random.default_rng(seed).normal(size=(b, D)))


def loop(x, labels, alpha=2.0, beta=50.0, base=1.0, epsilon=0.1):
    """Sec. 4 of the paper, one anchor after the other, and how many pairs mining left out."""
    total, dropped = 0.0, 0
    for i in range(len(x)):
        s = [x[i] @ x[k] for k in range(len(x))]
        positives = [s[k] for k in range(len(x)) if k != i and labels[k] == labels[i]]
        negatives = [s[k] for k in range(len(x)) if labels[k] != labels[i]]
        if not positives or not negatives:
            continue
        easy = [t for t in positives if not t < max(negatives) + epsilon]
        far = [t for t in negatives if not t > min(positives) - epsilon]
        dropped += len(easy) + len(far)
        kept = [t for t in positives if t not in easy], [t for t in negatives if t not in far]
        # log(1 + sum e^t): the 1 is e^0.
        pulled = np.logaddexp.reduce([0.0, *(-alpha * (t - base) for t in kept[0])])
        pushed = np.logaddexp.reduce([0.0, *(beta * (t - base) for t in kept[1])])
        total += pulled / alpha + pushed / beta
    return total / len(x), dropped


def slope(function, x, step=1e-6):
    """The gradient in float64, by central differences."""
    x, gradient = np.float64(x), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        gradient[i] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


def loss(embeddings, labels, valid=None, **options):
    return mean(*multi_similarity(embeddings, labels, valid=valid, **options))


OPTIONS = {
    "paper": {},
    "code": {"base": 0.5, "beta": 40.0},
    "all pairs": {"epsilon": np.inf},
    "hardest": {"epsilon": 0.0, "alpha": 1.0, "beta": 5.0},
}


RUN = jax.jit(jax.value_and_grad(loss))


@functools.cache
def reference(name="paper"):
    value, dropped = loop(np.float64(example()), LABELS, **OPTIONS[name])
    assert (dropped > 0) == (name != "all pairs")
    return value, slope(lambda x: loop(x, LABELS, **OPTIONS[name])[0], example())


@pytest.mark.parametrize("name", OPTIONS)
def test_matches_a_loop(name):
    run = jax.jit(jax.value_and_grad(functools.partial(loss, **OPTIONS[name])))
    value, gradient = run(example(), LABELS)
    equal(value, reference(name)[0])
    equal(gradient, reference(name)[1])
    order = np.random.default_rng(1).permutation(B)
    value, gradient = run(example()[order], LABELS[order])
    equal(value, reference(name)[0])
    equal(gradient, reference(name)[1][order])


def test_matches_pytorch_metric_learning_on_50_batches(peer):
    # Theirs with normalisation off, of loss and of miner. Its mean is over the batch as ours.
    torch = peer("torch")
    losses = peer("pytorch_metric_learning.losses")
    miners = peer("pytorch_metric_learning.miners")
    dot = peer("pytorch_metric_learning.distances").DotProductSimilarity
    reference = losses.MultiSimilarityLoss(
        alpha=2, beta=50, base=0.5, distance=dot(normalize_embeddings=False)
    )
    miner = miners.MultiSimilarityMiner(epsilon=0.1, distance=dot(normalize_embeddings=False))
    rng = np.random.default_rng(1)
    batches = unit(rng.normal(size=(50, 32, 8)))
    labels = rng.integers(0, 12, (50, 32)).astype(np.int32)
    assert any((np.bincount(row) == 1).any() for row in labels)
    run = jax.jit(jax.vmap(jax.value_and_grad(functools.partial(loss, base=0.5))))
    value, gradient = run(batches, labels)
    for i in range(50):
        theirs = torch.tensor(batches[i], dtype=torch.float64, requires_grad=True)
        mined = miner(theirs, torch.from_numpy(labels[i]))
        want = reference(theirs, torch.from_numpy(labels[i]), mined)
        want.backward()
        equal(value[i], want.item())
        equal(gradient[i], theirs.grad.numpy())


@pytest.mark.parametrize("filling", [np.nan, np.inf, 7.0])
def test_padding_has_no_influence(filling):
    valid = np.arange(B + 4) % 4 != 1
    padded = np.full((B + 4, D), filling, np.float32)
    labels = np.full(B + 4, 5, np.int32)
    padded[valid], labels[valid] = example(), LABELS
    value, gradient = RUN(padded, labels, valid=valid)
    equal(value, reference()[0])
    equal(gradient[valid], reference()[1])
    assert not gradient[~valid].any()
    value, gradient = RUN(padded, labels, valid=np.zeros_like(valid))
    assert value == 0 and not gradient.any()


def test_anchors_sum_to_the_whole_and_work_on_their_rows_only():
    def total(x, anchors):
        values, weights = multi_similarity(x, LABELS, anchors=anchors)
        return values.sum(), weights.sum()

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    order = np.random.default_rng(2).permutation(B).astype(np.int32)
    # Three devices: [4] anchors each.
    parts = [run(example(), part) for part in order.reshape(3, 4)]
    (value, weight), gradient = jax.tree.map(lambda *x: sum(x), *parts)
    assert weight == B
    equal(value / weight, reference()[0])
    equal(gradient / weight, reference()[1])
    program = str(jax.make_jaxpr(run)(example(), order[:4]))
    assert f"[4,{B}]" in program and f"[{B},{B}]" not in program


def test_corners():
    run = jax.jit(jax.value_and_grad(loss))
    # All equal, S the same for every pair: nothing is left out.
    for point, tolerance in ((example()[:1], 1e-5), (np.zeros((1, D), np.float32), 1e-5)):
        x = np.repeat(point, B, axis=0)
        value, gradient = run(x, LABELS)
        equal(value, loop(np.float64(x), LABELS)[0], tolerance)
        assert np.isfinite(gradient).all()
    # One class, or each its own: no anchor has both kinds.
    for labels in (np.full(B, -7, np.int32), np.arange(B, dtype=np.int32)):
        value, gradient = run(example(), labels)
        assert value == 0 and not gradient.any()
    value, gradient = run(example() * np.float32(1e-20), LABELS)
    equal(value, loop(np.zeros((B, D)), LABELS)[0])
    assert np.isfinite(gradient).all()
    # A norm of 1e18 is no unit vector, but no nan either.
    large = example() * np.float32(1e18)
    value, gradient = run(large, LABELS)
    equal(value, loop(np.float64(large), LABELS)[0])
    equal(gradient, slope(lambda x: loop(x, LABELS)[0], large, 1e12))
    twice = np.repeat(example()[: B // 2], 2, axis=0)
    value, gradient = run(twice, LABELS)
    equal(value, loop(np.float64(twice), LABELS)[0])
    assert np.isfinite(gradient).all()
    assert run._cache_size() == 1, "One trace for any labels."
    value, gradient = jax.jit(jax.value_and_grad(loss))(example(b=1), LABELS[:1])
    assert value == 0 and not gradient.any()


def test_a_pair_just_on_the_threshold_is_left_out():
    # In numbers without rounding: positive at 0.5, negative at 0.25, epsilon between them.
    x = np.array([[1, 0], [0.5, 0], [0.25, 0]], np.float32)
    labels = np.array([1, 1, 2], np.int32)
    values, _ = multi_similarity(x, labels, epsilon=0.25, anchors=np.array([0], np.int32))
    assert values == 0
    values, _ = multi_similarity(x, labels, epsilon=0.26, anchors=np.array([0], np.int32))
    equal(values[0], np.log(1 + np.exp(1)) / 2 + np.log(1 + np.exp(-37.5)) / 50)


def test_bfloat16_is_summed_in_float32():
    x = jnp.asarray(example(), jnp.bfloat16)
    value, gradient = RUN(x, LABELS)
    assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    equal(value, loop(np.float64(x), LABELS)[0])
    equal(np.float64(gradient), slope(lambda x: loop(x, LABELS)[0], x), 2**-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "alpha must be > 0; got 0.0"),
        ({"beta": np.nan}, "beta must be > 0; got nan"),
        ({"epsilon": -0.1}, "epsilon must be >= 0; got -0.1"),
        ({"labels": LABELS[:5]}, r"got \(12, 4\) and \(5,\)"),
        ({"labels": LABELS * 1.0}, "labels must be integers .*; got float64"),
        ({"labels": LABELS.astype(np.int64) + 2**32}, "labels must fit int32; got "),
        ({"embeddings": example()[0]}, r"embeddings \[b, d\]"),
        ({"valid": np.ones(3, bool)}, r"valid must be bool, .*\(12,\); got bool \(3,\)"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        multi_similarity(**{"embeddings": example(), "labels": LABELS, **change})


def test_nan_of_a_valid_row_is_seen_and_of_padding_is_not():
    x = example()
    x[0] = np.nan
    values, _ = jax.jit(multi_similarity)(x, LABELS)
    assert np.isnan(values).all()
    values, _ = jax.jit(multi_similarity)(x, LABELS, valid=np.arange(len(x)) > 0)
    assert np.isfinite(values).all()
