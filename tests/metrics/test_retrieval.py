import tracemalloc

import numpy as np
import pytest

from zoo.metrics import retrieval
from zoo.metrics.retrieval import neighbours, retrieval_scores


def reference(x, labels, ks, items=None, item_labels=None, ids=None, item_ids=None):
    """Query by query: sort (distance, right) so that wrong items come first at a tie."""
    own = items is None
    items, item_labels = (x, labels) if own else (items, item_labels)
    x, items = np.float64(x), np.float64(items)
    if own and ids is None:
        ids = range(len(x))
    item_ids = ids if own else item_ids
    scores = []
    for i in range(len(x)):
        ranked = []
        for j in range(len(items)):
            if ids is None or ids[i] != item_ids[j]:
                ranked.append((np.sum((x[i] - items[j]) ** 2), bool(labels[i] == item_labels[j])))
        right = [hit for _, hit in sorted(ranked)]
        total = sum(right)
        if total == 0:
            continue
        precision = [sum(right[: r + 1]) / (r + 1) for r in range(len(right))]
        average = sum(precision[r] for r in range(total) if right[r]) / total
        recalls = [any(right[:k]) for k in ks]
        scores.append([*recalls, right[0], sum(right[:total]) / total, average])
    names = [*(f"recall_at_{k}" for k in ks), "precision_at_1", "r_precision", "map_at_r"]
    return {
        **dict(zip(names, np.mean(scores, axis=0), strict=True)),
        "queries": len(scores),
        "queries_without_positive": len(x) - len(scores),
    }


def assert_equal(got, want):
    assert set(got) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, err_msg=name)


def grid(n, seed, width=3):
    """Points of a small grid far from 0: many are tied, a third is there twice; float32."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, width, (n, 3)) / 10 + 100).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_ties_and_duplicates_match_the_loop(seed, monkeypatch):
    monkeypatch.setattr(retrieval, "_BLOCK", 300)  # Several blocks, the last one short.
    rng = np.random.default_rng(seed)
    x, labels = grid(80, seed), rng.integers(-3, 4, 80)
    labels[:2] = 50, 51  # Classes of one.
    assert_equal(retrieval_scores(x, labels, (1, 2, 79)), reference(x, labels, (1, 2, 79)))
    ids = rng.integers(0, 60, 80)  # Some pictures stand there several times.
    assert_equal(retrieval_scores(x, labels, ids=ids), reference(x, labels, (1, 5), ids=ids))

    items, item_labels = grid(41, seed + 9), rng.integers(-3, 4, 41)
    pair = {"gallery": items, "gallery_labels": item_labels}
    assert_equal(
        retrieval_scores(x, labels, (1, 41), **pair),
        reference(x, labels, (1, 41), items, item_labels),
    )
    item_ids = rng.integers(0, 60, 41)
    assert_equal(
        retrieval_scores(x, labels, (3,), **pair, ids=ids, gallery_ids=item_ids),
        reference(x, labels, (3,), items, item_labels, ids, item_ids),
    )


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e18])
def test_scale_and_an_outlier_change_nothing(scale):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 8)) * scale, rng.integers(0, 5, 60)
    x[0] = 1e9 * scale
    assert_equal(retrieval_scores(x, labels), reference(x, labels, (1, 5)))


def test_six_points_by_hand():
    # On a line: a0 b1 a3 | c10 c11 b20.
    x = np.array([[0], [1], [3], [10], [11], [20]])
    labels = np.array([7, 8, 7, 9, 9, 8])
    # One positive each, at ranks 2, 5 (a0 a3 c10 c11 b20), 2 (b1 a0), 1, 1, 5 (c11 c10 a3 b1).
    got = retrieval_scores(x, labels, (1, 2, 4))
    assert_equal(
        got,
        {
            "recall_at_1": 2 / 6,
            "recall_at_2": 4 / 6,
            "recall_at_4": 5 / 6,
            "precision_at_1": 2 / 6,
            "r_precision": 2 / 6,
            "map_at_r": 2 / 6,
            "queries": 6,
            "queries_without_positive": 0,
        },
    )


@pytest.mark.parametrize(
    ("right", "r_precision", "map_at_r"),
    [([1], 0.1, 0.1), ([10], 0.1, 0.01), ([1, 10], 0.2, 0.12), ([1, 2], 0.2, 0.2), ([11], 0, 0)],
)
def test_ten_positives_by_hand(right, r_precision, map_at_r):
    """Given which of the nearest are right, the other of R = 10 positives lying far off."""
    labels = np.full(40, 1)
    labels[np.array(right) - 1] = labels[40 - 10 + len(right) :] = 0
    pair = {"gallery": np.arange(1.0, 41)[:, None], "gallery_labels": labels}
    got = retrieval_scores(np.zeros((1, 1)), np.array([0]), (1,), **pair)
    assert got["r_precision"] == pytest.approx(r_precision)
    assert got["map_at_r"] == pytest.approx(map_at_r)
    assert got["recall_at_1"] == (right[0] == 1)


@pytest.mark.parametrize("separate", [False, True])
def test_matches_pytorch_metric_learning(peer, separate):
    peer("pytorch_metric_learning")
    import torch
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    rng = np.random.default_rng(3)
    labels, item_labels = rng.integers(0, 8, 150), rng.integers(0, 8, 90)
    x, items = (rng.normal(size=(len(y), 16)) + y[:, None] / 6 for y in (labels, item_labels))
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=CustomKNN(LpDistance(normalize_embeddings=False)),
        device=torch.device("cpu"),
    )
    tensors = [torch.tensor(a) for a in (x, labels, items, item_labels)]
    want = calculator.get_accuracy(*tensors[: 4 if separate else 2])
    more = {"gallery": items, "gallery_labels": item_labels} if separate else {}
    got = retrieval_scores(x, labels, **more)
    assert 0.05 < got["map_at_r"] < 0.9
    assert got["precision_at_1"] == got["recall_at_1"]
    assert got["precision_at_1"] == pytest.approx(want["precision_at_1"], rel=1e-6)
    assert got["r_precision"] == pytest.approx(want["r_precision"], rel=1e-6)
    assert got["map_at_r"] == pytest.approx(want["mean_average_precision_at_r"], rel=1e-6)


def test_a_collapsed_network_scores_its_worst():
    labels = np.arange(40) % 4
    point = np.full((40, 5), 0.1, np.float32)
    got = retrieval_scores(point, labels, (1, 30, 31, 39))
    # 30 wrong items stand before the 9 right ones.
    want = [0, 0, 1, 1, 0, 0, 0, 40, 0]
    np.testing.assert_array_equal(list(got.values()), want)


def test_one_class_and_classes_of_one():
    x = np.random.default_rng(0).normal(size=(6, 2))
    got = retrieval_scores(x, np.full(6, -5))
    np.testing.assert_array_equal(list(got.values()), [1, 1, 1, 1, 1, 6, 0])
    got = retrieval_scores(x, np.array([1, 1, 2, 3, 4, 5]))
    assert (got["queries"], got["queries_without_positive"]) == (2, 4)
    with pytest.raises(ValueError, match="No query has another item of its class"):
        retrieval_scores(x, np.arange(6))


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_match_a_stable_sort(seed, monkeypatch):
    monkeypatch.setattr(retrieval, "_BLOCK", 300)
    x, items = grid(50, seed), grid(33, seed + 5)
    d = np.sqrt(np.sum((np.float64(x)[:, None] - np.float64(items)) ** 2, axis=-1))
    indices, distances = neighbours(x, 7, gallery=items)
    want = np.argsort(d, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(indices, want)
    np.testing.assert_array_equal(distances, np.take_along_axis(d, want, axis=1))

    rng = np.random.default_rng(seed)
    ids, item_ids = rng.integers(0, 30, 50), rng.integers(0, 30, 33)
    d[ids[:, None] == item_ids] = np.inf
    indices, _ = neighbours(x, 20, gallery=items, ids=ids, gallery_ids=item_ids)
    np.testing.assert_array_equal(indices, np.argsort(d, axis=1, kind="stable")[:, :20])


def test_nothing_is_its_own_neighbour_even_among_duplicates():
    x = np.zeros((5, 2))
    indices, distances = neighbours(x, 4)
    np.testing.assert_array_equal(indices, [[j for j in range(5) if j != i] for i in range(5)])
    assert not distances.any()


def test_memory_is_that_of_a_block(monkeypatch):
    monkeypatch.setattr(retrieval, "_BLOCK", 2**16)
    x = np.random.default_rng(0).normal(size=(4000, 4))
    tracemalloc.start()
    retrieval_scores(x, np.arange(4000) // 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # The whole matrix: 128 MB.


X, Y = np.zeros((4, 2)), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("args", "more", "message"),
    [
        ((X, Y[:3], (1,)), {}, r"labels must be 4 integers, one an embedding; got \[0 0 1\]"),
        ((X, Y * 1.0, (1,)), {}, r"labels must be 4 integers.* got \[0\. 0\."),
        ((X[0], Y), {}, r"embeddings must be \[n, d\].* got \(2,\)"),
        ((X[:0], Y[:0]), {}, r"not empty; got \(0, 2\)"),
        ((X + np.nan, Y), {}, r"must be finite; 4 rows are not, first 0"),
        ((X, Y, (1, 4)), {}, r"k must be in 1\.\.3, .* got \(1, 4\)"),
        ((X, Y, (0,)), {}, r"k must be in 1\.\.3, .* got \(0,\)"),
        ((X, Y, ()), {}, r"k must be in 1\.\.3, .* got \(\)"),
        ((X, Y, (3,)), {"ids": [4, 4, 5, 6]}, r"k must be in 1\.\.2"),
        ((X, Y, (5,)), {"gallery": X, "gallery_labels": Y}, r"k must be in 1\.\.4"),
        ((X, Y, (1,)), {"gallery": X}, "gallery and gallery_labels: give both"),
        ((X, Y, (1,)), {"gallery_labels": Y}, "gallery and gallery_labels: give both"),
        ((X, Y, (1,)), {"gallery": X[:, :1], "gallery_labels": Y}, "differ in d"),
        ((X, Y, (1,)), {"gallery_ids": Y}, "give both or neither"),
        ((X, Y, (1,)), {"gallery": X, "gallery_labels": Y, "ids": Y}, "give both or neither"),
        ((X, Y, (1,)), {"ids": [0.0] * 4}, "ids must be 4 integers"),
    ],
)
def test_refuses(args, more, message):
    with pytest.raises(ValueError, match=message):
        retrieval_scores(*args, **more)
