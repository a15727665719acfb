import numpy as np
import pytest
import scipy.ndimage
from sklearn.datasets import load_digits

from experiments.datasets import digit_scenes
from experiments.datasets.digit_scenes import DigitScenes, digit_images, places, scene
from zoo.data import open_source


def many(split, count, size=64):
    glyphs, part = digit_images(split), digit_scenes.SPLITS.index(split)
    scenes = [scene(glyphs, size, np.random.default_rng([7, part, i])) for i in range(count)]
    return np.stack([s[0] for s in scenes]), np.stack([s[1] for s in scenes])


def test_the_splits_write_with_disjoint_digits_that_together_are_all_of_them():
    digits, targets = load_digits(return_X_y=True)
    whole = {(d.tobytes(), t) for d, t in zip((digits / 16).astype("f4"), targets, strict=True)}
    parts = [
        {(d.tobytes(), t) for t, group in enumerate(digit_images(split)) for d in group}
        for split in digit_scenes.SPLITS
    ]
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole) == 1797
    for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        per_class = np.bincount([t for _, t in part], minlength=10)
        np.testing.assert_allclose(per_class, share * np.bincount(targets), atol=1)


def test_places_are_three_to_six_squares_inside_that_overlap_moderately():
    rng = np.random.default_rng(0)
    counts, sides = set(), set()
    for _ in range(300):
        squares = places(64, rng)
        counts.add(len(squares))
        masks = np.zeros((len(squares), 64, 64), bool)
        for mask, (y, x, side) in zip(masks, squares, strict=True):
            mask[y : y + side, x : x + side] = True
            assert mask.sum() == side**2
            sides.add(side)
        for i, a in enumerate(masks):
            for b in masks[:i]:
                assert (a & b).sum() <= digit_scenes.OVERLAP * min(a.sum(), b.sum())
    assert counts == {3, 4, 5, 6}
    assert (min(sides), max(sides)) == digit_scenes.DIGIT_SIZES


def test_colour_tells_nothing_of_the_class():
    def cells(images, labels):
        """The colour cells (8 steps a channel) and classes of the digits' pixels."""
        ink = (labels > 0) & (labels != 255)
        return images[ink].astype(int) // 32 @ [64, 8, 1], labels[ink]

    seen, classes = cells(*many("train", 600))
    table = np.zeros((512, 11), int)
    np.add.at(table, (seen, classes), 1)
    colours, truth = cells(*many("test", 300))
    guess = table.argmax(1)[colours]
    assert (guess == truth).mean() <= 0.2
    hits = [(guess == k) & (truth == k) for k in range(1, 11)]
    union = [(guess == k) | (truth == k) for k in range(1, 11)]
    assert np.mean([h.sum() / u.sum() for h, u in zip(hits, union, strict=True)]) <= 0.2


def test_size_tells_nothing_of_the_class():
    def heights(labels):
        found = []
        for label in labels:
            for k in range(1, 11):
                blobs, _ = scipy.ndimage.label(label == k, np.ones((3, 3)))
                boxes = scipy.ndimage.find_objects(blobs)
                found += [(box[0].stop - box[0].start, k) for box in boxes]
        return np.array([f for f in found if f[0] >= 14]).T  # Smaller ones are pieces of digits.

    table = np.zeros((65, 11), int)
    np.add.at(table, tuple(heights(many("train", 600)[1])), 1)
    height, truth = heights(many("test", 300)[1])
    assert (table.argmax(1)[height] == truth).mean() <= 0.2


def test_the_label_lies_on_the_ink():
    images, labels = many("train", 60)

    def spread(dy, dx):
        """Of the colours within a digit, when the label is moved."""
        total = 0
        for image, label in zip(images, np.roll(labels, (dy, dx), (1, 2)), strict=True):
            for k in range(1, 11):
                blobs, count = scipy.ndimage.label(label == k)
                for c in range(3):
                    variance = scipy.ndimage.variance(image[..., c], blobs, range(1, count + 1))
                    total += np.sum(variance)
        return total

    at_place = spread(0, 0)
    assert all(spread(*move) > 1.2 * at_place for move in [(1, 0), (-1, 0), (0, 1), (0, -1)])


def test_about_every_seventh_scene_has_a_void_frame_of_one_to_three_pixels():
    _, labels = many("validation", 400)
    void = labels == 255
    framed = void.any((1, 2))
    assert 0.10 <= framed.mean() <= 0.20
    widths = set()
    for mask in void[framed]:
        width = int(mask[32].argmin())
        inside = np.zeros((64, 64), bool)
        inside[width:-width, width:-width] = True
        np.testing.assert_array_equal(mask, ~inside)
        widths.add(width)
    assert widths == {1, 2, 3}


def test_the_stated_mean_and_std_are_the_pictures():
    images, labels = many("train", 1000)
    np.testing.assert_allclose(images.mean((0, 1, 2)) / 255, DigitScenes.MEAN, atol=0.01)
    np.testing.assert_allclose(images.std((0, 1, 2)) / 255, DigitScenes.STD, atol=0.01)
    assert set(np.unique(labels)) == {*range(11), 255}


def test_generation_is_deterministic_to_the_byte(tmp_path):
    files = []
    for folder in ("a", "b"):
        builder = DigitScenes(
            data_dir=tmp_path / folder, train_scenes=20, validation_scenes=2, test_scenes=3
        )
        builder.download_and_prepare()
        files.append({f.name: f.read_bytes() for f in builder.data_path.iterdir()})
    assert files[0] == files[1]
    assert len([name for name in files[0] if "array_record" in name]) == 3


def test_options_give_size_and_counts_and_every_split_differs():
    options = dict(size=80, train_scenes=3, validation_scenes=1, test_scenes=2)
    sources = [open_source("digit_scenes", s, options=options) for s in digit_scenes.SPLITS]
    assert [len(s) for s in sources] == [3, 1, 2]
    first = [source[0] for source in sources]
    assert all(e["image"].shape == (80, 80, 3) and e["label"].shape == (80, 80) for e in first)
    assert not np.array_equal(first[0]["image"], first[2]["image"])
    assert [e["name"] for e in first] == ["train_00000", "validation_00000", "test_00000"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 63}, "64 to 96 px, not 63"),
        ({"size": 97}, "64 to 96 px, not 97"),
        ({"test_scenes": 0}, "at least 1 scene"),
        ({"size": "big"}, "data.options.size must be int; got 'big'"),
        ({"train_scenes": 2.5}, "data.options.train_scenes must be int; got 2.5"),
        ({"sise": 64}, r"no option 'sise' \(nearest: size\)"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        open_source("digit_scenes", "train", options=options)


def test_a_path_is_refused():
    with pytest.raises(ValueError, match="reads no files: leave out the path 'x'"):
        open_source("digit_scenes", "train", path="x")
