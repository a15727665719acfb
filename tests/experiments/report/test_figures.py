import concurrent.futures
import dataclasses
import itertools
import json
import os

import cv2
import numpy as np
import pytest

from experiments.report import figures
from zoo.data.images import VOID_COLOUR
from zoo.data.info import Info

RNG = np.random.default_rng(0)


def info(k, channels=3):
    colours = tuple((20 + 5 * i, 255 - 10 * i, 7 * i) for i in range(k))
    names = tuple(f"class {i}" for i in range(k))
    return Info("x", k, names, colours, 255, channels, (0.5,) * channels, (0.2,) * channels)


def examples(k, channels=3, sizes=((24, 32), (40, 20))):
    images = [RNG.integers(0, 256, (h, w, channels), dtype=np.uint8) for h, w in sizes]
    labels = [RNG.choice([*range(k), 255], size) for size in sizes]
    predictions = [RNG.integers(0, k, size) for size in sizes]
    return images, labels, predictions


def pixels(path):
    return cv2.imread(str(path))[..., ::-1]


def colours_in(picture):
    return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def colour(code):
    return tuple(int(code[i : i + 2], 16) for i in (1, 3, 5))


RECORDS = [
    {"step": 1, "split": "train", "loss": 2.3},
    {"step": 2, "split": "train", "loss": 0.01},
    {"step": 2, "split": "validation", "loss": 1.0, "mean_iou": 0.25},
    {"step": 4, "split": "validation", "loss": None, "mean_iou": float("nan")},
]


def test_curves_draw_each_split_in_its_colour(tmp_path):
    figures.curves(RECORDS, tmp_path / "a.png")
    seen = colours_in(pixels(tmp_path / "a.png"))
    assert {colour(figures.HUES[0]), colour(figures.HUES[1])} <= seen
    assert colour(figures.HUES[2]) not in seen
    figures.curves(RECORDS, tmp_path / "b.png", upright=True)
    picture = pixels(tmp_path / "b.png")
    assert picture.shape == (2 * 456, 1200 / 2, 3)
    assert {colour(figures.HUES[0]), colour(figures.HUES[1])} <= colours_in(picture)


def test_train_and_validation_have_their_colours_whichever_was_logged_first(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    other = {"step": 0, "split": "test", "loss": 2.0}
    for records in (RECORDS, [RECORDS[2], *RECORDS], [other, *RECORDS]):
        figures.curves(records, "")
        lines = {line.get_label(): line.get_color() for line in drawn[-1].axes[0].lines}
        assert [lines["train"], lines["validation"]] == list(figures.HUES[:2])
    assert lines["test"] == figures.HUES[2]


@pytest.mark.parametrize(
    "records",
    [
        [],
        RECORDS[:1],
        [{"step": 3, "split": "train", "loss": None}],
        [{"step": 3, "split": "test", "loss": float("nan"), "mean_iou": 0.5}],
        [json.loads(json.dumps(record)) for record in RECORDS],
        [{"step": 10 * i, "split": f"s{i % 9}", "loss": -float(i)} for i in range(90)],
    ],
)
def test_curves_of_little_or_odd(tmp_path, records):
    figures.curves(records, tmp_path / "a.png", score="mean_iou")
    assert pixels(tmp_path / "a.png").shape[1] == 1200


def test_a_loss_that_falls_far_has_plain_numbers_at_its_ticks(tmp_path, monkeypatch):
    """Not the markup of powers of ten, which is not set where names may hold a $."""
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    falling = [{"step": i, "split": "train", "loss": 3.0 * 0.6**i} for i in range(12)]
    figures.curves(falling, tmp_path / "a.png")
    axes = drawn[0].axes[0]
    drawn[0].canvas.draw()
    assert axes.get_yscale() == "log"
    ticks = axes.yaxis.get_ticklabels(which="both")
    words = [tick.get_text() for tick in ticks if tick.get_text()]
    assert {"0.1", "0.2", "0.5", "1"} <= set(words) and not any("$" in word for word in words)
    far = [{"step": i, "split": "train", "loss": 3.0 * 0.5**i} for i in range(40)]
    figures.curves(far, tmp_path / "a.png")
    ticks = drawn[1].axes[0].yaxis.get_ticklabels()
    drawn[1].canvas.draw()
    boxes = [t.get_window_extent() for t in ticks if t.get_text() and t.get_visible()]
    assert 4 <= len(boxes) <= 14
    assert all(a.y1 <= b.y0 or b.y1 <= a.y0 for a, b in itertools.pairwise(boxes))


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 11, 21])
def test_confusion_shades_by_share_of_the_truth(tmp_path, k):
    # Alike but for the size of a class: the row's share, and so the picture, is the same.
    matrix = RNG.integers(0, 100, (k, k)) + 1
    names = [f"class {i}" for i in range(k)]
    figures.confusion(matrix, names, tmp_path / "a.png")
    figures.confusion(matrix * np.arange(1, k + 1)[:, None] * 8, names, tmp_path / "b.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))
    figures.confusion(matrix.T, names, tmp_path / "b.png")
    assert not np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_confusion_of_absent_classes(tmp_path):
    matrix = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]])
    figures.confusion(matrix, ["a", "b", "c"], tmp_path / "a.png")
    figures.confusion(np.zeros((3, 3), int), ["a", "b", "c"], tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"needs \[2, 2\] counts for 2 names; got \(3, 3\)"):
        figures.confusion(matrix, ["a", "b"], tmp_path / "c.png")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


@pytest.mark.slow
@pytest.mark.parametrize(("k", "channels"), [(2, 1), (11, 3), (21, 3)])
def test_grid_shows_every_class_void_and_error_in_its_colour(tmp_path, k, channels):
    about = info(k, channels)
    images, labels, predictions = examples(k, channels)
    figures.grid(images, labels, predictions, about, tmp_path / "a.png")
    seen = colours_in(pixels(tmp_path / "a.png"))
    assert {*about.colours, VOID_COLOUR, figures.RIGHT, figures.WRONG} <= seen


def test_grid_of_one_right_picture_names_no_absent_class(tmp_path):
    about = info(3)
    label = np.ones((10, 10), int)
    figures.grid([np.zeros((10, 10, 3), np.uint8)], [label], [label], about, tmp_path / "a.png")
    seen = colours_in(pixels(tmp_path / "a.png"))
    assert about.colours[1] in seen
    assert not {about.colours[0], about.colours[2], VOID_COLOUR} & seen


def test_grid_refuses_lists_of_unequal_length(tmp_path):
    images, labels, predictions = examples(2)
    with pytest.raises(ValueError, match="got 2, 1, 2"):
        figures.grid(images, labels[:1], predictions, info(2), tmp_path / "a.png")
    with pytest.raises(ValueError, match="one at least"):
        figures.overlays([], [], [], info(2))


@pytest.mark.parametrize("channels", [1, 3])
def test_overlays_stand_beside_their_image(channels):
    about = dataclasses.replace(info(2, channels), colours=((0, 0, 0), (200, 100, 50)))
    images, labels, predictions = examples(2, channels)
    picture = figures.overlays(images, labels, predictions, about)
    assert picture.shape == (24 + 40, 3 * 32, 3)
    assert picture.dtype == np.uint8
    rgb = images[1] if channels == 3 else np.repeat(images[1], 3, -1)
    np.testing.assert_array_equal(picture[24:, :20], rgb)
    ids = predictions[1]
    mixed = 0.5 * rgb + 0.5 * np.array(about.colours)[ids]
    want = np.where(ids[..., None] == 0, rgb, mixed)  # Black leaves the picture bare.
    np.testing.assert_allclose(picture[24:, 40:60], want, atol=0.5)
    assert not picture[24:, 60:].any()


@pytest.mark.slow
def test_threads_draw_at_once(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: figures.curves(RECORDS, path), paths))
    for path in paths:
        np.testing.assert_array_equal(pixels(path), pixels(paths[0]))


def test_truth_prediction_and_error_by_hand(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path, **_: drawn.append(figure))
    image, truth, said = (
        np.zeros((1, 3, 3), np.uint8),
        np.array([[0, 1, 255]]),
        np.array([[0, 0, 1]]),
    )
    figures.grid([image], [truth], [said], info(2), "")
    shown = {axes.get_title(): axes.images[0].get_array()[0] for axes in drawn[0].axes}
    a, b = info(2).colours
    right, wrong = figures.RIGHT, figures.WRONG
    np.testing.assert_array_equal(shown["truth"], [a, b, VOID_COLOUR])
    np.testing.assert_array_equal(shown["prediction"], [a, a, b])
    np.testing.assert_array_equal(shown["error"], [right, wrong, VOID_COLOUR])
    figures.confusion(np.array([[3, 1], [0, 4]]), ["a", "b"], "")
    texts = {text.get_position(): text.get_text() for text in drawn[1].axes[0].texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (1, 1): "100"}  # Columns, rows.


def test_names_of_classes_may_hold_dollars(tmp_path):
    """Two of them are no formula, which "^" alone would break."""
    figures.confusion(np.eye(2, dtype=int), ["US$^$", "a $x$ b"], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
