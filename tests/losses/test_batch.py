import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from batch_triplets import (
    LOSSES,
    B,
    D,
    assert_equal,
    compiled,
    each_distance,
    each_loss,
    example,
    loop,
    run,
)
from zoo.losses.batch import _share, batch_all_triplet
from zoo.losses.masks import num_triplets, triplet_mask
from zoo.losses.reduce import mean
from zoo.ops.distance import pairwise_squared_distance, safe_sqrt

LOW, HIGH = np.iinfo(np.int32).min, np.iinfo(np.int32).max


@each_distance
@each_loss
def test_matches_the_loop(name, squared):
    for seed in range(50):
        x, labels = example(seed)
        got = run(name, x, labels, squared=squared)
        assert_equal(got, loop(name, x, labels, squared=squared))


@pytest.mark.parametrize("name", ["all", "semi"])
def test_matches_the_masked_cube(name):
    """The readable form, in O(b^3) memory. More slots than one pass holds."""

    @jax.value_and_grad
    def plain(x, labels):
        d = safe_sqrt(pairwise_squared_distance(x, x))
        loss = d[:, :, None] + 0.5 - d[:, None, :]
        active = triplet_mask(labels) & (loss > 0)
        if name == "semi":
            active &= d[:, None, :] > d[:, :, None]
        return mean(jnp.where(active, loss, 0), active.astype(jnp.float32))

    x, labels = example(b=90)
    assert np.bincount(labels + 3).max() > 16
    assert_equal(run(name, x, labels), jax.jit(plain)(x, labels))


@pytest.mark.slow
def test_values_and_weights_are_each_anchors_sum_and_count(variant):
    x, labels = example()
    values, weights = variant(functools.partial(batch_all_triplet, margin=0.5))(x, labels)
    assert values.dtype == weights.dtype == jnp.float32
    for a in range(B):
        near = (labels == labels[a]) & (np.arange(B) != a)
        d = np.linalg.norm(x[a] - x.astype(np.float64), axis=1)
        t = d[near][:, None] - d[labels != labels[a]] + 0.5
        np.testing.assert_allclose(values[a], t[t > 0].sum(), rtol=1e-5, atol=1e-6)
        assert weights[a] == (t > 0).sum()
    assert 0 < weights.sum() < num_triplets(labels)


@each_loss
def test_padding_has_no_influence(name):
    x, labels = example()
    valid = np.random.default_rng(1).random(B) < 0.6
    _, gradient = want = run(name, x, labels, valid)
    assert_equal(want, loop(name, x, labels, valid))
    assert not gradient[~valid].any()
    for rubbish in (np.nan, np.inf, 1e30):
        dirty, others = x.copy(), labels.copy()
        dirty[~valid], others[~valid] = rubbish, 7
        for mine, theirs in zip(run(name, dirty, others, valid), want, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    nothing = run(name, np.full_like(x, np.nan), labels, np.zeros(B, bool))
    assert nothing[0] == 0 and not nothing[1].any()


@each_distance
@each_loss
def test_order_does_not_matter(name, squared):
    x, labels = example()
    x[5:9] = x[0]  # Ties as well.
    order = np.random.default_rng(0).permutation(B)
    value, gradient = run(name, x, labels, squared=squared)
    assert_equal(
        run(name, x[order], labels[order], squared=squared), (value, gradient[order]), 2e-6
    )


CORNERS = {
    "one class": np.zeros(B),
    "all distinct": np.arange(B),
    "a class of one": np.minimum(np.arange(B), 1),
    "int32 limits": np.array([LOW, HIGH, -1, 0, LOW + 1] * 4),
}


@pytest.mark.parametrize("labels", CORNERS.values(), ids=CORNERS)
@each_loss
def test_labels(name, labels):
    x, _ = example()
    assert_equal(run(name, x, labels), loop(name, x, labels))


@each_loss
def test_one_trace_for_any_labels(name):
    x, labels = example()
    run(name, x, labels)
    traces = compiled(name)._cache_size()
    for labels in CORNERS.values():
        run(name, x, labels)
    assert compiled(name)._cache_size() == traces


@each_distance
@each_loss
def test_equal_embeddings_lose_the_margin(name, squared):
    x, labels = np.full((B, D), 0.7, np.float32), np.arange(B) % 3
    value, gradient = run(name, x, labels, squared=squared)
    want = {"all": 0.5, "hard": 0.5, "soft": np.log1p(np.exp(0.5)), "semi": 0}[name]
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert not gradient.any()


@pytest.mark.parametrize("margin", [0.0, 0.5])
@each_loss
def test_duplicates_and_margin_0(name, margin):
    x, labels = example()
    x[labels == labels[0]] = x[0]
    x[labels == labels[1]] = x[0]
    assert_equal(run(name, x, labels, margin=margin), loop(name, x, labels, margin=margin))


@pytest.mark.parametrize("ulp", [-1, 0, 1])
def test_no_slope_is_lost_where_a_distance_is_computed_twice(ulp):
    """XLA may round it apart, and then no row equals the hardest (jax-ml/jax#40564)."""
    d = np.array([3.0, 1.0, 3.0, 2.0], np.float32)
    which = np.array([True, True, True, False])
    hardest = np.float32(3 + ulp * 2**-22)
    np.testing.assert_array_equal(jax.jit(_share)(which, d, hardest), [0.5, 0, 0.5, 0])


@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-6])
@each_loss
def test_near_rows_far_from_others_keep_their_digits(name, apart):
    """Their pull is a quotient of small numbers: products of matrices would leave noise of it."""
    x, labels = example()
    x += 30
    x[1::2] = x[::2] + np.float32(apart) * np.random.default_rng(1).normal(size=(10, D))
    labels[1::2] = labels[::2] + np.arange(10) % 2
    assert_equal(run(name, x, labels), loop(name, x, labels))


@each_loss
def test_a_single_row(name):
    value, gradient = run(name, np.ones((1, D), np.float32), np.arange(1))
    assert value == 0 and gradient.shape == (1, D) and not gradient.any()


@pytest.mark.parametrize("norm", [1e-20, 1e18])
@each_distance
@each_loss
def test_norms_at_the_ends_of_float32(name, squared, norm):
    x, labels = example()
    x = (x / np.linalg.norm(x, axis=1, keepdims=True) * norm).astype(np.float32)
    assert_equal(run(name, x, labels, squared=squared), loop(name, x, labels, squared=squared))


@each_loss
def test_nan_of_a_valid_row_is_seen(name):
    x, labels = example()
    for bad in (np.nan, np.inf):
        x[3] = bad
        assert np.isnan(run(name, x, labels)[0])


@pytest.mark.parametrize("name", ["all", "hard", "semi"])
def test_a_triplet_on_the_margin_is_inactive(name):
    x, labels, valid = np.zeros((B, D), np.float32), np.zeros(B, int), np.arange(B) < 4
    # d_ap is 0.5. d_an is 1.5 and 4.5 of the first; 1.0, on the margin, and 4.0 of the second.
    x[:4, 0], labels[:4] = [0, 0.5, 1.5, 4.5], [0, 0, 1, 2]
    value, gradient = run(name, x, labels, valid)
    assert value == 0 and not gradient.any()
    x[2, 0] -= 2.0**-10
    np.testing.assert_allclose(
        run(name, x, labels, valid)[0], 2.0**-10 / (2 if name == "hard" else 1)
    )
    # Nor is one semi-hard whose negative is as near as the positive.
    x[:3, 0] = [0, 0.5, -0.5]
    if name == "semi":
        assert run(name, x, labels, np.arange(B) < 3)[0] == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@each_loss
def test_half_precision_is_computed_in_float32(name, dtype):
    x, labels = example()
    x = jnp.asarray(x, dtype)
    value, gradient = run(name, x, labels)
    assert value.dtype == jnp.float32 and gradient.dtype == dtype
    want, slope = loop(name, np.asarray(x, np.float64), labels)
    assert_equal((value,), (want,))
    assert_equal((gradient,), (slope,), 5e-3)


@pytest.mark.parametrize("name", ["all", "hard"])
def test_vmap_equals_a_loop(name):
    x, labels = map(np.stack, zip(*map(example, range(3)), strict=True))
    values, gradients = jax.vmap(compiled(name))(x, labels, np.ones((3, B), bool))
    for i in range(3):
        assert_equal((values[i], gradients[i]), run(name, x[i], labels[i]), 2e-6)


@each_loss
def test_matches_pytorch_metric_learning(peer, name):
    """Its embeddings are not normalised, and its mean is over the same triplets.

    Differences: its semi-hard triplets include those just on the margin (none here); its soft
    margin stands without one, ln(1 + exp(d_ap - d_an)); its hardest of equals is the first.
    """
    torch = peer("torch")
    distances, losses, miners, reducers = (
        peer(f"pytorch_metric_learning.{part}")
        for part in ("distances", "losses", "miners", "reducers")
    )
    margin = 0.0 if name == "soft" else 0.5
    distance = distances.LpDistance(normalize_embeddings=False)
    reducer = reducers.AvgNonZeroReducer() if name == "all" else reducers.MeanReducer()
    loss = losses.TripletMarginLoss(
        margin, smooth_loss=name == "soft", distance=distance, reducer=reducer
    )
    miner = {
        "all": lambda x, labels: None,
        "semi": miners.TripletMarginMiner(0.5, "semihard", distance=distance),
    }.get(name, miners.BatchHardMiner(distance=distance))
    for seed in range(50):
        x, labels = example(seed)
        theirs, known = torch.from_numpy(x).requires_grad_(), torch.from_numpy(labels).long()
        want = loss(theirs, known, miner(theirs, known))
        want.backward()
        got = run(name, x, labels, margin=margin)
        assert_equal(got, (want.item(), theirs.grad.numpy()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": np.zeros(3)}, r"embeddings \[b, d\] and labels \[b\], b > 0, .*; got \(3,"),
        ({"embeddings": np.zeros((0, 2)), "labels": np.zeros(0, int)}, r"b > 0, .*; got \(0, 2\)"),
        ({"labels": np.zeros(4, np.int32)}, r"got \(3, 2\) and \(4,\)"),
        ({"embeddings": np.zeros((3, 2), int)}, r"float embeddings .*; got .*, int64"),
        ({"embeddings": np.zeros((3, 2), complex)}, r"float embeddings .*; got .*, complex128"),
        ({"labels": np.zeros(3, np.float32)}, r"must be integers \[b\]; got float32"),
        ({"labels": np.array([0, 1, 2**40])}, "must fit int32; got 0 to 1099511627776"),
        ({"margin": -0.1}, "margin must be >= 0 and finite; got -0.1"),
        ({"margin": np.nan}, "margin must be >= 0 and finite; got nan"),
        ({"valid": np.ones(2, bool)}, r"one a row, \(3,\); got bool \(2,\)"),
    ],
)
@each_loss
def test_refuses(name, change, message):
    arguments = {
        "embeddings": np.zeros((3, 2), np.float32),
        "labels": np.zeros(3, np.int32),
        "margin": 0.2,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        LOSSES[name](arguments.pop("embeddings"), arguments.pop("labels"), **arguments)
