import numpy as np
import pytest
from PIL import Image

from experiments.datasets._files import paired_files, read_pair
from experiments.folders.layouts import natural


@pytest.fixture
def folders(tmp_path):
    """Pictures f1, f9, f10 with masks, and a file of another kind."""
    for folder, suffix in (("image", ".JPG"), ("label", ".png")):
        (tmp_path / folder).mkdir()
        for name in ("f10", "f9", "f1"):
            Image.new("L", (4, 3), 7).save(tmp_path / folder / (name + suffix))
        (tmp_path / folder / "notes.txt").write_text("mine")
    return tmp_path / "image", tmp_path / "label"


def pair(folders):
    return paired_files(*folders, (".jpg",), (".png",))


def test_numbers_sort_as_numbers():
    names = ["f10", "f9", "f1", "a2b10", "a2b9", "f01"]
    assert sorted(names, key=natural) == ["a2b9", "a2b10", "f01", "f1", "f9", "f10"]


def test_pictures_meet_their_masks_in_numeric_order(folders):
    found = pair(folders)
    assert [(a.name, b.name) for a, b in found] == [
        ("f1.JPG", "f1.png"), ("f9.JPG", "f9.png"), ("f10.JPG", "f10.png"),
    ]  # fmt: skip
    image, mask = read_pair(found[0], 3)
    assert image.shape == (3, 4, 3) and mask.shape == (3, 4)
    np.testing.assert_array_equal(mask, 7)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda image, label: (label / "f9.png").unlink(), "f9.JPG has no mask of that name"),
        (lambda image, label: (image / "f1.JPG").unlink(), "f1.png has no image of that name"),
        (
            lambda image, label: Image.new("L", (4, 3)).save(image / "f9.jpg"),
            "share a name; take one away",
        ),
        (lambda image, label: [f.unlink() for f in label.glob("*.png")], r"holds no .png files"),
    ],
)
def test_what_does_not_belong_together_is_named(folders, spoil, words):
    spoil(*folders)
    with pytest.raises(ValueError, match=words):
        pair(folders)


def test_a_missing_folder_is_left_to_the_builder_to_explain(folders):
    folders[1].rename(folders[1].with_name("gone"))
    with pytest.raises(OSError, match="No such file .*/label'"):
        pair(folders)


def test_sizes_that_differ_are_named(folders):
    Image.new("L", (5, 3)).save(folders[1] / "f9.png")
    with pytest.raises(ValueError, match=r"f9.png is 5x3 px, but its image .*f9.JPG is 4x3"):
        read_pair(pair(folders)[1], 1)
