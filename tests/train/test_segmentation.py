"""The segmentation task: what is scored, and at which size."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo.losses
from zoo.data.info import Info
from zoo.losses import pixel_cross_entropy
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


@pytest.mark.slow
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


def drawn(rng, size=(2, 7, 6), outputs=1):
    """Logits, labels with void, and class weights."""
    label = rng.integers(0, 3, size)
    label[0, :2] = 11
    return rng.normal(size=(outputs, *size, 3)), label, np.array([0.5, 2.0, 1.0])


def by_loop(logits, label, class_weights, border, smoothing):
    """Sums of the values and of the weights over pixels, one by one in float64."""
    values, weights = 0.0, 0.0
    for place in np.argwhere(label != 11):
        z, y, b = logits[tuple(place)], label[tuple(place)], border[tuple(place)]
        log_p = z - np.log(np.exp(z).sum())
        for w in (class_weights, b * np.ones(3)):
            values -= (1 - smoothing) * w[y] * log_p[y] + smoothing / 3 * (w * log_p).sum()
            weights += w[y]
    return values, weights


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_border_weights_are_added_to_those_of_the_classes(smoothing):
    rng = np.random.default_rng(0)
    (logits,), label, class_weights = drawn(rng)
    task = BoundSegmentation(INFO, class_weights, Segmentation(label_smoothing=smoothing))
    border = rng.uniform(0, 10, label.shape)
    given = {**batch(label), "border": jnp.asarray(border, jnp.float32)}
    values, weights = jax.jit(task.loss)(jnp.asarray(logits, jnp.float32), given)
    want = by_loop(logits, label, class_weights, border, smoothing)
    np.testing.assert_allclose([values.sum(), weights.sum()], want, rtol=1e-5)
    assert not np.any(values[label == 11]) and not np.any(weights[label == 11])
    # Logits of the middle take the weights of the middle.
    values, weights = task.loss(jnp.asarray(logits[:, 1:-2, 1:-1], jnp.float32), given)
    inner = (slice(None), slice(1, -2), slice(1, -1))
    want = by_loop(logits[inner], label[inner], class_weights, border[inner], smoothing)
    np.testing.assert_allclose([values.sum(), weights.sum()], want, rtol=1e-5)
    # Evaluation knows nothing of them.
    assert task.sums(jnp.asarray(logits, jnp.float32), given)["weight"] == (label != 11).sum()


def test_deep_supervision_is_the_weighted_mean_of_the_losses():
    """As nnU-Net: weights 1, 1/2, 1/4, together 1, of each output's mean loss."""
    rng = np.random.default_rng(1)
    logits, label, class_weights = drawn(rng, outputs=3)
    task = BoundSegmentation(INFO, class_weights)
    outputs = tuple(jnp.asarray(logits, jnp.float32))

    def mean(outputs):
        values, weights = task.loss(outputs, batch(label))
        return values.sum() / weights.sum()

    loss, gradient = jax.jit(jax.value_and_grad(mean))(outputs)
    border, shares = np.zeros(label.shape), np.array([4, 2, 1]) / 7
    each = [np.divide(*by_loop(z, label, class_weights, border, 0.0)) for z in logits]
    np.testing.assert_allclose(loss, shares @ each, rtol=1e-6)
    for z, share, got in zip(logits, shares, gradient, strict=True):
        p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        known = label != 11
        w = np.where(known, class_weights[np.where(known, label, 0)], 0)
        want = share * w[..., None] * (p - np.eye(3)[np.where(known, label, 0)]) / w.sum()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-8)
    # One output in a tuple or without: the loss itself, to the last bit.
    for alone in (outputs[0], outputs[:1]):
        values, weights = task.loss(alone, batch(label))
        options = {"ignore_label": 11, "class_weights": class_weights}
        want = pixel_cross_entropy(outputs[0], jnp.asarray(label), **options)
        np.testing.assert_array_equal([values, weights], want)


@pytest.mark.parametrize("region", ["dice", "jaccard", "tversky", "lovasz_softmax"])
def test_a_region_loss_of_each_image_is_added_to_its_pixels(region):
    """By hand: each image's own loss, weighed by its pixels that are not void."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (3, 4, 5))
    truth[0, :2], truth[2] = 11, 11  # Half an image of void, and all of one.
    logits, given = jnp.asarray(rng.normal(size=(3, 4, 5, 3)), jnp.float32), batch(truth)
    task = Segmentation(region=region, region_weight=0.5).bind(INFO)
    got = zoo.losses.mean(*jax.jit(task.loss)(logits, given))
    pixels, plain = (truth != 11).sum((1, 2)), pixel_cross_entropy(logits, truth, ignore_label=11)
    loss = functools.partial(getattr(zoo.losses, region), ignore_label=11)
    one = jax.jit(lambda z, t: zoo.losses.mean(*loss(z, t)))
    alone = [one(logits[i : i + 1], truth[i : i + 1]) for i in range(3)]
    want = zoo.losses.mean(*plain) + 0.5 * np.dot(pixels, alone) / pixels.sum()
    np.testing.assert_allclose(got, want, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda z: zoo.losses.mean(*task.loss(z, given))))(logits)
    assert np.isfinite(gradient).all() and not gradient[2].any() and gradient[1].any()


def test_focal_stands_in_for_cross_entropy():
    rng = np.random.default_rng(0)
    truth, logits = rng.integers(0, 3, (2, 4, 5)), jnp.asarray(rng.normal(size=(2, 4, 5, 3)))
    got = Segmentation(focal_gamma=2.0).bind(INFO).loss(logits, batch(truth))
    np.testing.assert_allclose(got, zoo.losses.focal(logits, truth, gamma=2.0), rtol=1e-6)


def test_pictures_are_scored_by_themselves():
    truth = np.array([[[0, 0, 1, 0]] * 4, [[0, 0, 0, 0]] * 4, [[11] * 4] * 4, [[2, 2, 1, 0]] * 4])
    said = np.array(
        [[[0, 0, 1, 0]] * 4, [[0, 1, 0, 0]] * 4, [[0, 1, 0, 1]] * 4, [[0, 0, 0, 0]] * 4]
    )
    plain = Segmentation().bind(INFO)
    assert plain.rows(one_hot(said), batch(truth)) == {} == plain.row_sums({})
    task = Segmentation(boundary_tolerance=0.2, membrane=1).bind(INFO)
    given = batch(truth, weight=[1, 1, 1, 0])  # The last fills the batch only.
    rows = jax.device_get(jax.jit(task.rows)(one_hot(said), given))
    sums = {k: np.asarray(x) for k, x in task.sums(one_hot(said), given).items()}
    parts = [task.row_sums({"pictures": rows["pictures"][i : i + 2]}) for i in (0, 2)]
    added = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    scores = task.scores({**sums, **added})
    # Picture 1 is perfect; 2 has no contour, so those said are wrong, and one cell; 3 is void.
    assert scores["mean_boundary_f1"] == 0.5 and scores["boundary_f1"][:2] == [0.5, 1.0]
    assert np.isnan(scores["boundary_f1"][2])
    # Picture 2's cell of 16 falls in two: the membrane's 4 go to either side.
    split = (8**2 + 8**2) / 16**2, (4**2 + 12**2) / 16**2
    assert scores["rand_merge"] == 1 and scores["rand_split"] in [(1 + x) / 2 for x in split]
    assert scores["information_split"] == 0.5 and scores["information_merge"] == 1
    assert scores["mean_iou"] == plain.scores(sums)["mean_iou"]
    assert plain.scores(sums).keys() == scores.keys() - added.keys()


def test_a_membrane_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match=r"task\.membrane=3 is none of 0\.\.2"):
        Segmentation(membrane=3).bind(INFO)


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
        ({"boundary_tolerance": 0.0}, "boundary_tolerance must be > 0; got 0.0"),
        (
            {"region": "dise"},
            "'dise' is no loss of pixels .nearest: dice.; take none, dice, .*tversky",
        ),
        ({"region_weight": -1.0}, "region_weight must be at least 0; got -1.0"),
        ({"focal_gamma": 2.0, "label_smoothing": 0.1}, "label_smoothing is not for focal_gamma"),
    ],
)
def test_bad_fields_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Segmentation(**fields)
