"""The segmentation task: what is scored, and at which size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.data.info import Info
from zoo.models import UNet
from zoo.train.segmentation import BoundSegmentation, Segmentation

COLOURS = ((0, 0, 0), (200, 0, 0), (0, 200, 0))
INFO = Info("three", 3, ("a", "b", "c"), COLOURS, 11, 1, (0.5,), (0.25,))


class Labels(list):
    """A source of labels alone."""

    info = INFO


def batch(labels, *, size=None, weight=None):
    labels = np.asarray(labels, np.int32)
    size = size or labels.shape[1:]
    weight = np.ones(len(labels)) if weight is None else np.array(weight)
    image = np.zeros((len(labels), *size, 1), np.float32)
    return {"image": image, "label": labels, "weight": weight.astype(np.float32)}


def one_hot(ids):
    return 9.0 * jax.nn.one_hot(jnp.asarray(ids), 3)


def test_padding_rows_and_void_count_nowhere():
    task = Segmentation().bind(INFO)
    truth = np.array([[[0, 1], [2, 11]], [[1, 1], [1, 1]]])
    given = batch(truth, weight=[1, 0])
    logits = one_hot([[[0, 1], [1, 2]], [[0, 0], [0, 0]]])
    sums = jax.jit(task.sums)(logits, given)
    np.testing.assert_array_equal(sums["confusion"], [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert sums["weight"] == 3
    values, weights = jax.jit(task.loss)(logits, given)
    assert weights.sum() == 3 and values[1].sum() == 0 and values[0, 1, 1] == 0
    poisoned = logits.at[1].set(jnp.nan).at[0, 1, 1].set(jnp.nan)
    gradient = jax.grad(lambda z: task.loss(z, given)[0].sum())(poisoned)
    assert np.isfinite(gradient[0, 0]).all()


def test_class_weights_are_counted_on_the_training_split():
    # Picture 1 has 6 of class 0 and 2 of class 1, picture 2 eight of class 0; class 2 is nowhere.
    first = np.array([[0, 0, 0, 1], [0, 0, 0, 1]], np.uint8)
    source = Labels([{"label": first}, {"label": np.zeros((2, 4), np.uint8)}])
    task = Segmentation(class_weights="median_frequency").bind(INFO, source)
    # Frequencies 14 / 16 and 2 / 8, their median 9 / 16.
    np.testing.assert_allclose(task.class_weights, [9 / 14, 9 / 4, 0])
    gentle = Segmentation(class_weights="median_frequency", class_weight_power=0.5)
    np.testing.assert_allclose(gentle.bind(INFO, source).class_weights, [(9 / 14) ** 0.5, 1.5, 0])
    assert Segmentation().bind(INFO, source).class_weights is None


def test_a_resized_picture_is_scored_at_the_label_s_size():
    task = Segmentation().bind(INFO)
    truth = np.repeat(np.repeat([[[0, 1], [0, 1]]], 3, 1), 3, 2)  # 6x6 from 2x2.
    sums = task.sums(one_hot([[[0, 1], [0, 1]]]), batch(truth, size=(2, 2)))
    np.testing.assert_array_equal(sums["confusion"], np.diag([18, 18, 0]))


def test_logits_of_the_middle_are_scored_in_the_middle():
    task = Segmentation().bind(INFO)
    truth = np.zeros((1, 6, 6), int)
    truth[:, 2:4, 2:4] = [[1, 2], [2, 1]]
    logits = one_hot([[[1, 2], [2, 1]]])
    sums = task.sums(logits, batch(truth))
    np.testing.assert_array_equal(sums["confusion"], np.diag([0, 2, 2]))
    assert task.loss(logits, batch(truth))[1].sum() == 4
    with pytest.raises(ValueError, match="--set data.score_at=input"):
        task.sums(logits, batch(truth, size=(4, 4)))


def test_scores_are_ratios_of_sums():
    task = Segmentation().bind(INFO)
    sums = {
        "confusion": np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]),
        "loss": np.float64(6),
        "weight": np.float64(8),
    }
    scores = task.scores(sums)
    assert scores["loss"] == 0.75
    np.testing.assert_allclose(scores["mean_iou"], (3 / 4 + 4 / 5) / 2)
    assert scores[task.headline] == scores["mean_iou"]
    json.dumps(scores)


def test_a_model_of_other_classes_is_told_the_way_out():
    with pytest.raises(ValueError, match="three has 3 classes; --set model.num_classes=3"):
        BoundSegmentation(INFO).check_model(UNet(num_classes=4))
    BoundSegmentation(INFO).check_model(UNet(num_classes=3))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"class_weights": "median"}, "none, median_frequency, got 'median'"),
        ({"label_smoothing": 1.0}, r"in \[0, 1\); got 1.0"),
    ],
)
def test_bad_fields_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Segmentation(**fields)
