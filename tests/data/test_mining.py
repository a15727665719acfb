import tracemalloc
import unittest.mock

import numpy as np
import pytest

from zoo.data import mining
from zoo.data.mining import mine_triplets_offline

MARGIN = 0.7


def example(n=150, d=5, classes=12):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n) * 1000 - 3000
    labels[0] = 10**10  # Alone in its class.
    return rng.normal(size=(n, d)).astype(np.float32), labels


def mine(x, labels, kind, seed=0, margin=MARGIN, block=mining.BLOCK, **options):
    rng = np.random.default_rng(seed)
    with unittest.mock.patch.object(mining, "BLOCK", block):
        triplets = mine_triplets_offline(x, labels, rng, kind=kind, margin=margin, **options)
    assert all(part.dtype == np.int64 for part in triplets)
    return np.stack(triplets, axis=1).tolist()


def loop_distance(x, a, b):
    return sum((float(p) - float(q)) ** 2 for p, q in zip(x[a], x[b], strict=True)) ** 0.5


def partners(labels, a):
    alike = [b for b in range(len(labels)) if b != a and labels[b] == labels[a]]
    return alike, [b for b in range(len(labels)) if labels[b] != labels[a]]


def test_hard_is_the_loops():
    x, labels = example()
    want = []
    for a in range(len(x)):
        alike, other = partners(labels, a)
        if alike:
            p = max(alike, key=lambda b: loop_distance(x, a, b))
            want.append([a, p, min(other, key=lambda b: loop_distance(x, a, b))])
    assert len(want) == len(x) - 1
    for options in ({}, {"block": 7}, {"squared": True}):
        assert mine(x, labels, "hard", **options) == want


@pytest.mark.parametrize("squared", [False, True])
def test_semi_hard_lies_within_the_margin_of_the_loop(squared):
    x, labels = example()
    x[3] *= 30  # Its negatives are all farther or all nearer than a positive can be.
    power = 2 if squared else 1
    kinds = {"within": 0, "nearest farther": 0, "farthest": 0}
    for seed in range(3):
        for a, p, n in mine(x, labels, "semi_hard", seed, 0.05, squared=squared, block=64):
            alike, other = partners(labels, a)
            assert p in alike and n in other
            d = {b: loop_distance(x, a, b) ** power for b in other}
            d_ap = loop_distance(x, a, p) ** power
            farther = [b for b in other if d[b] > d_ap]
            within = [b for b in farther if d[b] < d_ap + 0.05]
            if within:
                assert n in within
                kinds["within"] += 1
            elif farther:
                assert n == min(farther, key=d.get)
                kinds["nearest farther"] += 1
            else:
                assert n == max(other, key=d.get)
                kinds["farthest"] += 1
    assert all(kinds.values()), kinds


def test_semi_hard_and_random_draw_from_all_they_may():
    x = np.array([[0.0], [0.5], [0.6], [0.8], [1.1], [9.0], [0.2]])
    labels = np.array([0, 0, 1, 1, 2, 3, 4])
    found = {"semi_hard": [], "random": []}
    for kind, negatives in found.items():
        for seed in range(600):
            a, p, n = mine(x, labels, kind, seed)[0]
            assert (a, p) == (0, 1)
            negatives.append(n)
    # d_ap = 0.5: those in 0.5..1.2 are 2, 3 and 4, of 200 each (standard deviation 12).
    counts = np.bincount(found["semi_hard"], minlength=7)
    assert counts[[0, 1, 5, 6]].sum() == 0 and counts[2:5].min() > 150
    counts = np.bincount(found["random"], minlength=7)
    assert counts[:2].sum() == 0 and counts[2:].min() > 80


@pytest.mark.parametrize("kind", ["hard", "semi_hard", "random"])
def test_one_outcome_for_any_block_with_duplicates_far_from_the_origin(kind):
    x, labels = example(300, 33)
    x = np.concatenate([x, x[::-1]]) + np.float32(1000)  # Each picture twice.
    labels = np.concatenate([labels, np.roll(labels, 5)])
    want = mine(x, labels, kind)
    for block in (1, 17, 599, 10_000):
        assert mine(x, labels, kind, block=block) == want
    assert kind == "hard" or mine(x, labels, kind, seed=1) != want


def test_ties_go_to_the_lowest_index():
    # From 0: positives at -1 and 1, negatives at -2 and 2.
    x = np.array([[0.0], [1.0], [-1.0], [2.0], [-2.0], [2.0], [-2.0]])
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    assert mine(x, labels, "hard")[0] == [0, 1, 3]
    assert mine(x[[0, 2, 1, 4, 3, 5, 6]], labels, "hard")[0] == [0, 1, 3]


def test_close_points_do_not_cancel():
    # A plain float32 Gram matrix cannot tell 1000 from 1000.001.
    x = np.array([1000.0, 1000.001, 1000.003, 1000.002, 1000.004, -5e5])[:, None]
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert mine(x, labels, "hard")[:2] == [[0, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e18])
@pytest.mark.parametrize("kind", ["hard", "semi_hard", "random"])
def test_any_scale_gives_a_triplet_of_each_anchor(kind, scale):
    x, labels = example(40)
    got = mine(x.astype(np.float64) * scale, labels, kind, margin=0.0)
    usable = [a for a in range(40) if partners(labels, a)[0]]
    assert [a for a, _, _ in got] == usable
    if kind == "hard" and scale:
        assert got == mine(x, labels, kind)
    for a, p, n in got:
        assert a != p and labels[a] == labels[p] and labels[a] != labels[n]


def test_memory_holds_blocks_alone():
    x, labels = example(4000, 8)
    tracemalloc.start()
    mine(x, labels, "semi_hard", block=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # A matrix of all pairs has 128e6 bytes; one of a block 1.6e6.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "easy"}, "one of hard, semi_hard, random; got 'easy'"),
        ({"margin": -0.1}, "margin must be finite and 0 or more; got -0.1"),
        ({"margin": np.nan}, "got nan"),
        ({"labels": np.zeros(3, int)}, r"\(150, 5\) and \(3,\)"),
        ({"labels": np.zeros(150)}, "integers.*float64"),
        ({"labels": np.zeros(150, int)}, "triplets among 150 images of 1 classes"),
        ({"labels": np.arange(150)}, "triplets among 150 images of 150 classes"),
        ({"x": np.full((150, 5), np.inf)}, "150 of 150 embeddings are not finite.*row 0"),
    ],
)
def test_refuses(change, message):
    x, labels = example()
    with pytest.raises(ValueError, match=message):
        mine(**{"x": x, "labels": labels, "kind": "hard", **change})
