import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal
from zoo.losses.reduce import mean
from zoo.losses.supervised_contrastive import supervised_contrastive

B, D = 12, 4
# A class of one, negative labels and both ends of int32 among them.
LOW, HIGH = np.iinfo(np.int32).min, np.iinfo(np.int32).max
LABELS = np.array([5, -1, 5, LOW, HIGH, -1, 5, HIGH, LOW, -1, 0, LOW], np.int32)


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def example(seed=0, b=B):
    return unit(np.random.default_rng(seed).normal(size=(b, D)))


def loop(z, labels, temperature):
    """Eq. 2 of Khosla et al., one anchor after the other; the mean over those with a positive."""
    costs = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            total = np.logaddexp.reduce([z[i] @ z[a] / temperature for a in others])
            share = [z[i] @ z[p] / temperature - total for p in positives]
            costs.append(-sum(share) / len(positives))
    return np.mean(costs)


def nt_xent(z, temperature):
    """Eq. 1 and Algorithm 1 of Chen et al.; rows 2k and 2k + 1 are views of one picture."""
    total = 0.0
    for i in range(len(z)):
        s = np.array([z[i] @ z[k] for k in range(len(z))]) / temperature
        below = sum(np.exp(s[k]) for k in range(len(z)) if k != i)
        total -= np.log(np.exp(s[i ^ 1]) / below)
    return total / len(z)


def slope(function, x, step=1e-6):
    """The gradient in float64, by central differences."""
    x, gradient = np.float64(x), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        gradient[i] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


def loss(embeddings, labels, temperature=0.1, valid=None):
    return mean(*supervised_contrastive(embeddings, labels, temperature=temperature, valid=valid))


RUN = jax.jit(jax.value_and_grad(loss))


@functools.cache
def reference(temperature=0.1):
    function = functools.partial(loop, labels=LABELS, temperature=temperature)
    return function(np.float64(example())), slope(function, example())


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_matches_a_loop(variant, temperature):
    run = variant(jax.value_and_grad(functools.partial(loss, temperature=temperature)))
    value, gradient = run(example(), LABELS)
    equal(value, reference(temperature)[0])
    equal(gradient, reference(temperature)[1])
    order = np.random.default_rng(1).permutation(B)
    value, gradient = run(example()[order], LABELS[order])
    equal(value, reference(temperature)[0])
    equal(gradient, reference(temperature)[1][order])


def test_two_views_are_nt_xent():
    labels = np.repeat(np.array([7, -3, 0, HIGH, 2, 1], np.int32), 2)
    value, gradient = RUN(example(), labels)
    equal(value, nt_xent(np.float64(example()), 0.1))
    equal(gradient, slope(functools.partial(nt_xent, temperature=0.1), example()))


def test_a_low_temperature_is_stable():
    # exp(1 / 0.001) is beyond float32 and float64.
    for temperature in (0.01, 0.001):
        run = jax.jit(jax.value_and_grad(functools.partial(loss, temperature=temperature)))
        value, gradient = run(example(), LABELS)
        equal(value, reference(temperature)[0])
        equal(gradient, reference(temperature)[1])


def test_matches_pytorch_metric_learning_on_50_batches(peer):
    # Theirs with normalisation off. Its mean leaves out what has loss 0: here that is just the
    # anchors without a positive, which weigh 0 in ours.
    torch = peer("torch")
    distances = peer("pytorch_metric_learning.distances")
    reference = peer("pytorch_metric_learning.losses").SupConLoss(
        temperature=0.1, distance=distances.DotProductSimilarity(normalize_embeddings=False)
    )
    rng = np.random.default_rng(1)
    batches = unit(rng.normal(size=(50, 32, 8)))
    labels = rng.integers(0, 12, (50, 32)).astype(np.int32)
    assert any((np.bincount(row) == 1).any() for row in labels)
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(loss)))(batches, labels)
    for i in range(50):
        theirs = torch.tensor(batches[i], dtype=torch.float64, requires_grad=True)
        want = reference(theirs, torch.from_numpy(labels[i]))
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
        values, weights = supervised_contrastive(x, LABELS, anchors=anchors)
        return values.sum(), weights.sum()

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    order = np.random.default_rng(2).permutation(B).astype(np.int32)
    # Three devices: [4] anchors each.
    parts = [run(example(), part) for part in order.reshape(3, 4)]
    (value, weight), gradient = jax.tree.map(lambda *x: sum(x), *parts)
    assert weight == B - 1
    equal(value / weight, reference()[0])
    equal(gradient / weight, reference()[1])
    program = str(jax.make_jaxpr(run)(example(), order[:4]))
    assert f"[4,{B}]" in program and f"[{B},{B}]" not in program


def test_corners():
    run = jax.jit(jax.value_and_grad(loss))
    # All equal: each of the other 11 is as likely. So are vectors of zeros.
    for point in (example()[:1], np.zeros((1, D), np.float32), example()[:1] * 1e-20):
        value, gradient = run(np.repeat(point, B, axis=0), LABELS)
        equal(value, np.log(B - 1))
        assert np.isfinite(gradient).all()
    one_class = np.full(B, -7, np.int32)
    value, gradient = run(example(), one_class)
    equal(value, loop(np.float64(example()), one_class, 0.1))
    assert np.isfinite(gradient).all()
    value, gradient = run(example(), np.arange(B, dtype=np.int32))
    assert value == 0 and not gradient.any()
    # A norm of 1e18 is no unit vector, but no nan either.
    large = example() * np.float32(1e18)
    value, gradient = run(large, LABELS)
    equal(value, loop(np.float64(large), LABELS, 0.1))
    equal(gradient, slope(lambda x: loop(x, LABELS, 0.1), large, 1e12))
    twice = np.repeat(example()[: B // 2], 2, axis=0)
    value, gradient = run(twice, LABELS)
    equal(value, loop(np.float64(twice), LABELS, 0.1))
    assert np.isfinite(gradient).all()
    assert run._cache_size() == 1, "One trace for any labels."
    value, gradient = jax.jit(jax.value_and_grad(loss))(example(b=1), LABELS[:1])
    assert value == 0 and not gradient.any()


def test_a_class_of_one_weighs_nothing():
    values, weights = supervised_contrastive(example(), LABELS)
    np.testing.assert_array_equal(weights, LABELS != 0)
    assert values[LABELS == 0] == 0


def test_bfloat16_is_summed_in_float32():
    x = jnp.asarray(example(), jnp.bfloat16)
    value, gradient = RUN(x, LABELS)
    assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    equal(value, loop(np.float64(x), LABELS, 0.1))
    equal(np.float64(gradient), slope(lambda x: loop(x, LABELS, 0.1), x), 2**-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be > 0; got 0.0"),
        ({"temperature": np.nan}, "got nan"),
        ({"labels": LABELS[:5]}, r"got \(12, 4\) and \(5,\)"),
        ({"labels": LABELS * 1.0}, "labels must be integers .*; got float64"),
        ({"labels": LABELS.astype(np.int64) + 2**32}, "labels must fit int32; got "),
        ({"embeddings": example()[0]}, r"embeddings \[b, d\]"),
        ({"valid": np.ones(3, bool)}, r"valid must be bool, .*\(12,\); got bool \(3,\)"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        supervised_contrastive(**{"embeddings": example(), "labels": LABELS, **change})
