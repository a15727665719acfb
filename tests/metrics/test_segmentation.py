import functools
import json
import math

import numpy as np
import pytest
import sklearn.metrics as sk

from zoo.metrics import confusion_matrix, segmentation_scores

K = 6


def example(shape=(3, 17, 23), seed=0):
    """Predictions and labels that often agree; a tenth of the labels is void."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, shape).astype(np.int32)
    predictions = np.where(rng.random(shape) < 0.6, labels, rng.integers(0, K, shape))
    labels[rng.random(shape) < 0.1] = 255
    return predictions.astype(np.int32), labels


def counted(variant, predictions, labels):
    count = functools.partial(confusion_matrix, num_classes=K, ignore_label=255)
    return np.asarray(variant(count)(predictions, labels))


@pytest.mark.parametrize("shape", [(3, 17, 23), (40,), (0, 4, 4)])
def test_matrix_matches_sklearn(variant, shape):
    predictions, labels = example(shape)
    got = counted(variant, predictions, labels)
    valid = labels != 255
    # scikit-learn refuses an empty sample; counted by hand it is all zeros.
    want = np.zeros((K, K), np.int32)
    if valid.any():
        want = sk.confusion_matrix(labels[valid], predictions[valid], labels=range(K))
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int32


def test_rows_are_the_truth(variant):
    got = counted(variant, np.array([1, 1, 4]), np.array([0, 1, 255]))
    want = np.zeros((K, K), int)
    want[0, 1] = want[1, 1] = 1
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3), (4, 1), (5,)])
def test_any_partition_and_padding_gives_the_same_matrix(variant, sizes):
    predictions, labels = example((5, 8, 9))
    want = counted(variant, predictions, labels)
    total = np.zeros((K, K), np.int64)
    for start, size in zip(np.cumsum((0, *sizes)), sizes, strict=False):
        part = slice(start, start + size)
        pad = ((0, 5 - size), (0, 2), (0, 1))
        total += counted(
            variant,
            np.pad(predictions[part], pad, constant_values=3),
            np.pad(labels[part], pad, constant_values=255),
        )
    np.testing.assert_array_equal(total, want)


def test_narrow_types_do_not_overflow(variant):
    predictions = np.full((50, 50), 20, np.uint8)
    labels = np.full((50, 50), 20, np.uint8)
    count = functools.partial(confusion_matrix, num_classes=21, ignore_label=255)
    assert variant(count)(predictions, labels)[20, 20] == 2500


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([0, 1], [0, 6], r"labels must be in 0\.\.5 or 255, which is void; got 6"),
        ([0, 1], [-1, 0], "labels .* got -1"),
        ([0, 7], [255, 255], r"predictions must be in 0\.\.5; got 7"),
        ([0, 1], [0, 1, 2], r"one shape; got \(2,\) and \(3,\)"),
        ([0.0, 1.0], [0, 1], "integer predictions; got float64"),
    ],
)
def test_matrix_refuses(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(predictions), np.array(labels), K, 255)


def test_scores_match_sklearn():
    predictions, labels = example()
    scores = segmentation_scores(np.asarray(confusion_matrix(predictions, labels, K, 255)))
    valid = labels != 255
    y, p = labels[valid], predictions[valid]
    each = {"labels": range(K), "average": None}
    want = {
        "mean_iou": sk.jaccard_score(y, p, average="macro"),
        "frequency_weighted_iou": sk.jaccard_score(y, p, average="weighted"),
        "pixel_accuracy": sk.accuracy_score(y, p),
        "mean_class_accuracy": sk.balanced_accuracy_score(y, p),
        "mean_dice": sk.f1_score(y, p, average="macro"),
        "iou": sk.jaccard_score(y, p, **each),
        "class_accuracy": sk.recall_score(y, p, **each),
        "dice": sk.f1_score(y, p, **each),
    }
    assert set(scores) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-12, err_msg=name)
    json.dumps(scores, allow_nan=False)


def test_absent_classes_are_left_out():
    # Class 1 is nowhere; class 2 is predicted once but is not there.
    scores = segmentation_scores(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]]))
    np.testing.assert_equal(scores["iou"], [0.75, math.nan, 0.0])
    np.testing.assert_equal(scores["dice"], [6 / 7, math.nan, 0.0])
    np.testing.assert_equal(scores["class_accuracy"], [0.75, math.nan, math.nan])
    assert scores["mean_iou"] == 0.375
    assert scores["mean_dice"] == pytest.approx(3 / 7)
    assert scores["mean_class_accuracy"] == 0.75
    assert scores["frequency_weighted_iou"] == 0.75
    assert scores["pixel_accuracy"] == 0.75


def test_empty_matrix_scores_nan():
    scores = segmentation_scores(np.zeros((2, 2), np.int64))
    assert np.isnan(np.hstack(list(scores.values()))).all()


def test_large_counts_do_not_overflow():
    scores = segmentation_scores(np.full((2, 2), 2**31 - 1, np.int32))
    assert scores["pixel_accuracy"] == 0.5
    assert scores["mean_iou"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3), int), r"got \(2, 3\)"),
        (np.zeros((2, 2)), "integer counts; got float64"),
        (np.array([[1, -1], [0, 0]]), "counts >= 0; got -1"),
    ],
)
def test_scores_refuse(matrix, message):
    with pytest.raises(ValueError, match=message):
        segmentation_scores(matrix)
