"""Against SciPy's correlation, and pictures changed by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.stats import pearsonr

from experiments.folders.duplicates import CORRELATION, mark, near_pairs


def picture(seed, size=(96, 80)):
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def through_jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return Image.open(file)


CHANGES = {
    "saved as JPEG": through_jpeg,
    "smaller": lambda image: image.resize((60, 50)),
    "darker": lambda image: image.point(lambda v: 0.6 * v),
    "less contrast": lambda image: image.point(lambda v: 0.5 * v + 60),
}


def found(*images):
    return near_pairs([mark(np.asarray(image)) for image in images])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_nearly_the_same(change):
    images = [picture(0), picture(1), CHANGES[change](picture(0)), picture(2)]
    assert found(*images) == [(0, 2, False)]


def test_the_same_pixels_are_the_same():
    assert found(picture(0), picture(1), picture(1)) == [(1, 2, True)]
    assert found(picture(0)) == found() == []


def test_plain_pictures_are_the_same_only_pixel_by_pixel():
    plain = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "red")]
    assert found(*plain) == [(0, 2, True)]


def test_the_same_pixels_are_compared_with_the_first_alone():
    marks = 2000 * [mark(np.asarray(Image.new("L", (40, 30))).reshape(30, 40, 1))]
    assert near_pairs(marks) == [(0, j, True) for j in range(1, 2000)]
    less = CHANGES["darker"](picture(0))
    assert found(picture(1), picture(0), less, less, picture(0)) == [
        (1, 2, False),
        (1, 4, True),
        (2, 3, True),
    ]


def test_pictures_that_are_all_near_are_joined_by_few_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(60, 190, (32, 32, 1))
    marks = [mark((base + rng.integers(-2, 3, base.shape)).astype(np.uint8)) for _ in range(50)]
    assert near_pairs(marks) == [(0, j, False) for j in range(1, 50)]
    # The cosine of 7 degrees is 0.9925, that of 14 is 0.970: the third joins the others.
    turns = np.deg2rad([0, 14, 7, 90])
    chain = [(i, np.array([np.cos(t), np.sin(t)], np.float32)) for i, t in enumerate(turns)]
    assert near_pairs(chain) == [(0, 2, False), (1, 2, False)]


def test_what_counts_is_the_correlation():
    rng = np.random.default_rng(0)
    base = rng.integers(60, 190, (32, 32))
    near = {}
    for amount in (2, 6, 12, 20):
        other = base + rng.normal(0, amount, base.shape).round().astype(int)
        near[amount] = pearsonr(base.ravel(), other.ravel())[0] >= CORRELATION
        pair = [np.repeat(p[..., None], 3, -1).astype(np.uint8) for p in (base, other)]
        assert bool(near_pairs([*map(mark, pair)])) == near[amount]
    assert set(near.values()) == {True, False}
