"""Which pictures are the best and the worst, and the table of classes, against scikit-learn."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import jaccard_score, precision_score, recall_score

from experiments.report import segmentation
from experiments.report.segmentation import Row
from zoo.data.info import Info
from zoo.train.segmentation import BoundSegmentation

COLOURS = ((0, 0, 0), (200, 0, 1), (0, 200, 0))
INFO = Info("three", 3, ("a", "<b>", "c"), COLOURS, 255, 1, (0.5,), (0.25,))
RNG = np.random.default_rng(0)


def mean_iou(label, prediction):
    """The mean over the classes that are there or predicted, by scikit-learn."""
    known = label != 255
    pair = label[known], prediction[known]
    return jaccard_score(*pair, labels=np.union1d(*pair), average="macro", zero_division=0)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9, 40])
def test_extremes_are_those_of_sorting_all(n):
    scores = RNG.permutation(np.arange(n)) / 7
    rows = [Row(i, score, None, None) for i, score in enumerate(scores)]
    rows.insert(n // 2, Row(n, np.nan, None, None))
    best, worst = segmentation.extremes(iter(rows), 4)
    ranked = sorted(range(n), key=lambda i: scores[i])
    half = min(4, n // 2)
    assert [row.place for row in worst] == ranked[:half]
    assert [row.place for row in best] == ranked[half:][-4:][::-1]


class Said:
    """A model that says what its picture holds."""

    def apply(self, variables, image):
        return jnp.eye(3)[image[..., 0].astype(int)]


def hand_made():
    """Two pictures of one size and seven of another: batches of four, filled where sizes change."""
    sizes = [(3, 4)] * 2 + [(5, 2)] * 7
    labels = [RNG.choice([0, 1, 2, 255], size) for size in sizes]
    labels[4][:] = 255  # No score.
    predictions = [RNG.integers(0, 3, size) for size in sizes]
    predictions[7] = np.where(labels[7] == 255, 0, labels[7])  # The best.
    predictions[1] = np.where(labels[1] == 255, 0, (labels[1] + 1) % 3)  # The worst.
    batches = []
    for rows in ([0, 1], [2, 3, 4, 5], [6, 7, 8]):
        fill = [rows[0]] * (4 - len(rows))
        image = np.stack([predictions[i] for i in rows + fill])[..., None].astype(np.float32)
        label = np.stack([labels[i] for i in rows + fill]).astype(np.int32)
        weight = np.array([1.0] * len(rows) + [0.0] * len(fill), np.float32)
        batches.append({"image": image, "label": label, "weight": weight})
    return labels, predictions, batches


def test_every_picture_is_scored_by_itself():
    labels, predictions, batches = hand_made()
    run = types.SimpleNamespace(
        info=INFO,
        task=BoundSegmentation(INFO),
        experiment=types.SimpleNamespace(model=Said(), split="test"),
        source=lambda split: split,
        eval_batches=lambda source: iter(batches),
    )
    rows = list(segmentation.predictions(run, {}))
    assert [row.place for row in rows] == list(range(9))
    for row, label, prediction in zip(rows, labels, predictions, strict=True):
        np.testing.assert_array_equal(row.label, label)
        np.testing.assert_array_equal(row.prediction, prediction)
        if row.place == 4:
            assert np.isnan(row.score)
        else:
            assert row.score == pytest.approx(mean_iou(label, prediction))
    best, worst = segmentation.extremes(rows, 2)
    assert best[0].place == 7 and worst[0].place == 1


def test_classes_are_scored_as_scikit_learn_does():
    truth, said = RNG.integers(0, 2, 50), RNG.integers(0, 2, 50)  # Class 2 is nowhere.
    matrix = np.zeros((3, 3), np.int64)
    np.add.at(matrix, (truth, said), 1)
    table = segmentation.classes(matrix, INFO)
    how = {"labels": [0, 1], "average": None}
    want = [f(truth, said, **how) for f in (jaccard_score, precision_score, recall_score)]
    for i, name in enumerate(("a", "<b>")):
        share = (truth == i).mean()
        assert table.rows[i] == [name, *(f"{x[i]:.3f}" for x in want), f"{share:.1%}"]
    assert table.rows[2] == ["c", "–", "–", "–", "0.0%"]
    assert table.swatches == ["#000000", "#c80001", "#00c800"]
    counts = segmentation.counts(1000 * matrix, INFO)
    assert counts.rows[1] == ["<b>", *(f"{1000 * n:,}" for n in matrix[1])]
    assert counts.head[1:] == ["a", "<b>", "c"]
