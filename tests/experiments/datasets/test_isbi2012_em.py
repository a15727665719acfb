import numpy as np
import pytest
from PIL import Image

from experiments.datasets.isbi2012_em import choose_slices
from zoo.data import open_source


def fill(folder, count):
    """Slices named 0.png, 1.png ...; each picture has its number as its value."""
    for name in ("image", "label"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        label = np.full((4, 6), 255, np.uint8)
        label[index % 4] = 0
        Image.fromarray(np.full((4, 6), index, np.uint8)).save(folder / "image" / f"{index}.png")
        Image.fromarray(label).save(folder / "label" / f"{index}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "isbi2012" / "train", 20)


def slices(folder, split, **options):
    source = open_source("isbi2012_em", split, path=str(folder), options=options)
    return [int(e["image"][0, 0, 0]) for e in source]


def test_twenty_slices_train_on_0_to_14_in_the_order_of_their_numbers(folder):
    for path in (folder, folder.parent):
        assert slices(path, "train") == list(range(15))
        assert slices(path, "validation") == list(range(15, 20))


def test_dark_labels_are_membrane(folder):
    source = open_source("isbi2012_em", "train", path=str(folder))
    assert source.info.class_names == ("cell", "membrane")
    assert (source.info.channels, source.info.ignore_label) == (1, 255)
    assert source[6]["image"].shape == (4, 6, 1)
    want = np.zeros((4, 6))
    want[2] = 1
    np.testing.assert_array_equal(source[6]["label"], want)


def test_slices_are_chosen_by_option_and_never_meet_the_copy_of_others(folder):
    options = {"train_slices": "0-2, 7", "validation_slices": "19,4"}
    assert slices(folder, "train", **options) == [0, 1, 2, 7]
    assert slices(folder, "validation", **options) == [4, 19]
    assert slices(folder, "train") == list(range(15))
    assert slices(folder, "train", validation_slices="3-18") == [0, 1, 2, 19]


@pytest.mark.parametrize(
    ("train", "validation", "count", "want"),
    [
        (None, None, 20, (15, 5)),
        (None, None, 30, (22, 8)),
        (None, None, 2, (1, 1)),
        ("0-3", None, 6, (4, 2)),
        (None, "5", 6, (5, 1)),
    ],
)
def test_what_is_not_chosen_is_left_over(train, validation, count, want):
    chosen = choose_slices(train, validation, count)
    assert tuple(map(len, chosen)) == want
    assert sorted(chosen[0] + chosen[1]) == list(range(count))


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ("0-9", "9-12", r"share the slices \[9\]"),
        ("0-20", None, "'0-20' and validation_slices=None ask for 20, but the slices are 0-19"),
        (None, "20", "'20' ask for 20"),
        ("5-3", None, "train_slices='5-3' is no list of numbers"),
        ("a", None, "'a' is no list of numbers"),
        ("3-", None, "'3-' is no list of numbers"),
        ("", "1", "leave one split without slices"),
        ("0-19", None, "leave one split without slices"),
    ],
)
def test_bad_choices_are_refused(folder, train, validation, message):
    options = {"train_slices": train, "validation_slices": validation}
    with pytest.raises(ValueError, match=message):
        open_source("isbi2012_em", "train", path=str(folder), options=options)


def test_faulty_folders_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="nowhere/image'.: give the one with image/ and label/"):
        slices(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="isbi2012_em is read from a folder"):
        open_source("isbi2012_em", "train")
    Image.fromarray(np.full((4, 6), 7, np.uint8)).save(folder / "label" / "3.png")
    with pytest.raises(ValueError, match=r"label/3.png holds the values \[7\]"):
        slices(folder, "train")
    (folder / "label" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"image/3.png has no mask"):
        slices(folder, "train")


def test_the_real_stack_has_the_membranes_that_its_readme_counts(shared_data):
    """data/README.md: membrane 22.9 % of slices 0..19; mean/std 0.4865/0.1665."""
    path = str(shared_data / "isbi2012")
    sources = [open_source("isbi2012_em", s, path=path) for s in ("train", "validation")]
    examples = [e for source in sources for e in source]
    assert [len(s) for s in sources] == [15, 5]
    assert examples[0]["image"].shape == (512, 512, 1)
    assert np.mean([e["label"] == 1 for e in examples]) == pytest.approx(0.229, abs=5e-4)
    pixels = np.stack([e["image"] for e in examples]) / 255
    assert pixels.mean() == pytest.approx(sources[0].info.mean[0], abs=5e-4)
    assert pixels.std() == pytest.approx(sources[0].info.std[0], abs=5e-4)
    np.testing.assert_array_equal(
        examples[7]["image"][..., 0],
        np.asarray(Image.open(shared_data / "isbi2012" / "train" / "image" / "7.png")),
    )
