import numpy as np
import pytest
from sklearn.datasets import load_digits

from experiments.datasets import Digits8x8
from zoo.data import open_labelled

SPLITS = ("train", "validation", "test")
DIGITS, TARGETS = load_digits(return_X_y=True)


def opened(**options):
    return [open_labelled("digits8x8", split, options=options) for split in SPLITS]


@pytest.mark.parametrize("held_out", ["", "7,8,9"])
def test_the_splits_are_scikit_learns_digits_pixel_for_pixel(held_out):
    sources, seen = opened(held_out=held_out), []
    for source in sources:
        places = [int(e["name"].removeprefix("digit_")) for e in source]
        assert places == sorted(places)
        np.testing.assert_array_equal(source.labels, TARGETS[places])
        got = np.stack([e["image"] for e in source]).reshape(-1, 64)
        np.testing.assert_array_equal(got, np.rint(DIGITS[places] * 255 / 16))
        assert (got.dtype, got.min(), got.max()) == (np.uint8, 0, 255)
        assert [e["label"] for e in source] == source.labels.tolist()
        seen += places
    assert sorted(seen) == list(range(1797))
    assert sources[0][0]["image"].shape == (8, 8, 1)
    assert sources[0].info.class_names == tuple("0123456789")


def test_shares_are_those_of_each_class():
    counts = np.bincount(TARGETS)
    for source, share in zip(opened(), (0.7, 0.1, 0.2), strict=True):
        np.testing.assert_allclose(np.bincount(source.labels), share * counts, atol=1)
    train, validation, test = opened(held_out="7-9")
    for source, share in ((train, 0.8), (validation, 0.2)):
        got = np.bincount(source.labels, minlength=10)
        np.testing.assert_allclose(got, share * counts * (np.arange(10) < 7), atol=1)
    assert np.bincount(test.labels).tolist() == [0] * 7 + counts[7:].tolist()
    assert test.info.num_classes == 10


def test_joined_classes_are_halves_of_training_digits():
    train, validation, test = opened(held_out="7-9", joined=3)
    plain = opened(held_out="7-9")
    names = train.info.class_names
    assert len(names) == 10 + 2 * 7 * 6 and names[10] == "0/1" and names[-1] == "6|5"
    assert [len(s) for s in (validation, test)] == [len(s) for s in plain[1:]]
    assert len(train) == len(plain[0]) + 3 * 84
    assert (np.bincount(train.labels)[10:] == 3).all()
    images = np.stack([e["image"][..., 0] for e in train])
    for label, image in zip(train.labels, images, strict=True):
        if label >= 10:
            (a, how, b), axis = names[label], 0 if "/" in names[label] else 1
            whole = [
                np.split(images[train.labels == int(n)], 2, axis + 1)[k]
                for k, n in ((0, a), (1, b))
            ]
            halves = np.split(image, 2, axis)
            assert how in "/|" and a != b
            assert all((w == h).all((1, 2)).any() for w, h in zip(whole, halves, strict=True))
    again = opened(held_out="7-9", joined=3)[0]
    assert all((x["image"] == y["image"]).all() for x, y in zip(train, again, strict=True))


def test_the_stated_mean_and_std_are_the_pictures():
    np.testing.assert_allclose((DIGITS / 16).mean(), Digits8x8.MEAN, atol=1e-3)
    np.testing.assert_allclose((DIGITS / 16).std(), Digits8x8.STD, atol=1e-3)


def test_preparing_is_deterministic_to_the_byte(tmp_path):
    files = []
    for folder in ("a", "b"):
        builder = Digits8x8(data_dir=tmp_path / folder)
        builder.download_and_prepare()
        files.append({f.name: f.read_bytes() for f in builder.data_path.iterdir()})
    assert files[0] == files[1] and len(files[0]) >= 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"options": {"held_out": "10"}}, "held_out='10' must name digits 0-9"),
        ({"options": {"held_out": "0-8"}}, "leave two of them"),
        ({"options": {"held_out": "a"}}, "held_out='a' is no list of numbers"),
        ({"options": {"joined": -1}}, "joined=-1 must be at least 0"),
        ({"options": {"held_out": "3-"}}, "held_out='3-' is no list of numbers"),
        ({"options": {"held_uot": "3"}}, r"no option 'held_uot' \(nearest: held_out\)"),
        ({"path": "x"}, "reads no files: leave out the path 'x'"),
    ],
)
def test_bad_options_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        open_labelled("digits8x8", "train", **given)
