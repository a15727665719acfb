import concurrent.futures
import functools

import numpy as np
import pytest
from scipy.stats import chisquare

from zoo.data.pairs import endless_rows, make_pairs

# Unsorted, negative, far apart; classes of 4, 3, 2 images.
LABELS = np.array([7, -3, 7, 2**40, -3, 7, 2**40, -3, 7])


def test_every_image_has_a_positive_and_a_negative():
    n = len(LABELS)
    i, j, same = make_pairs(LABELS, np.random.default_rng(0))
    assert i.dtype == j.dtype == np.int64 and same.dtype == bool
    assert i.shape == j.shape == same.shape == (2 * n,)
    for kind in (True, False):
        assert sorted(i[same == kind]) == list(range(n))
    for a, b, match in zip(i, j, same, strict=True):
        assert a != b and (LABELS[a] == LABELS[b]) == match


def test_partners_are_uniform_over_those_a_loop_allows():
    n, rounds = len(LABELS), 3000
    counts = np.zeros((2, n, n))
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        i, j, same = make_pairs(LABELS, rng)
        np.add.at(counts, (same.astype(int), i, j), 1)
    for a in range(n):
        for match in (0, 1):
            allowed = [b for b in range(n) if b != a and (LABELS[a] == LABELS[b]) == match]
            row = counts[match, a]
            assert row[allowed].sum() == row.sum() == rounds
            assert len(allowed) == 1 or chisquare(row[allowed]).pvalue > 1e-4


def test_an_image_alone_in_its_class_has_no_positive_and_half_match_still():
    labels = np.array([0, 0, 1, 2, 2, 2])
    places = np.zeros(6)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        i, j, same = make_pairs(labels, rng)
        assert same.sum() == 6 and (i != j).all()
        assert sorted(i[~same]) == list(range(6))
        places += np.bincount(i[same], minlength=6)
    assert places[2] == 0
    assert chisquare(places[[0, 1, 3, 4, 5]] - 2000).pvalue > 1e-4


def test_a_million_labels_take_no_loop():
    labels = np.random.default_rng(0).integers(0, 300_000, 1_000_000)
    i, j, same = make_pairs(labels, np.random.default_rng(0))
    np.testing.assert_array_equal(labels[i] == labels[j], same)
    assert (i != j).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([5, 5, 5], "No pairs or triplets among 3 images of 1 classes: .* and another class"),
        (np.zeros(0, int), "0 images of 0 classes"),
        ([1, 2, 3], "3 images of 3 classes: there must be a class of two images"),
        ([0.0, 0.0, 1.0], r"integers \[n\].*float64"),
        (["a", "a", "b"], r"integers \[n\].*<U1"),
        ([[0, 0], [1, 1]], r"\(2, 2\)"),
    ],
)
def test_refuses(labels, message):
    with pytest.raises(ValueError, match=message):
        make_pairs(np.asarray(labels), np.random.default_rng(0))


def pair_rows(seed):
    return endless_rows(functools.partial(make_pairs, LABELS), 18, seed)


def test_rows_of_pairs_in_any_order_and_from_threads():
    row = pair_rows(3)
    rows = np.array([row(i) for i in range(72)])
    for epoch in rows.reshape(4, 18, 3):
        first, second, same = epoch.T
        np.testing.assert_array_equal(LABELS[first] == LABELS[second], same)
        assert np.bincount(first).tolist() == [2] * 9 and same.sum() == 9
        assert 0 < same[:9].sum() < 9  # Mixed.
    assert not np.array_equal(rows[:18], rows[18:36])
    order = np.random.default_rng(0).permutation(72)
    again = pair_rows(3)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(again, order)), rows[order])
    assert not np.array_equal([pair_rows(4)(i) for i in range(18)], rows[:18])


def test_rows_of_triplets_are_each_of_them_once_an_epoch():
    triplets = (np.arange(20), np.arange(20) + 100, np.arange(20) + 200)
    row = endless_rows(lambda rng: triplets, 20, seed=0)
    rows = np.array([row(i) for i in range(40)]).reshape(2, 20, 3)
    for epoch in rows:
        np.testing.assert_array_equal(epoch[epoch[:, 0].argsort()], np.stack(triplets, 1))
    assert not np.array_equal(rows[0], rows[1])
