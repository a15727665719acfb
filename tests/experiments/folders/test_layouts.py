"""Every usual layout, spelt out by hand: which picture meets which mask, in which split."""

import pytest
from PIL import Image

from experiments.folders.layouts import class_folders, find_pairs, split_of

# {layout: {split: [(picture, mask)]}}, then files that belong to none.
LAYOUTS = {
    "images and masks": (
        {"": [("images/a.jpg", "masks/a.png"), ("images/b.png", "masks/b.png")]}, (),
    ),
    "labels": ({"": [("imgs/a.jpg", "labels/a.png")]}, ("overview.png",)),
    "annotations": ({"": [("Images/a.JPG", "Annotations/a.png")]}, ()),
    "pictures above their masks": ({"": [("a.jpg", "masks/a.png")]}, ()),
    "one folder": ({"": [("a.png", "a_mask.png"), ("b.jpg", "b_mask.png")]}, ()),
    "one folder of masks in front": ({"": [("a_1.png", "mask_a_1.png")]}, ()),
    "a suffix in folders": ({"": [("images/a.jpg", "masks/a_mask.gif")]}, ()),
    "a word each": ({"": [("images/img_7.png", "masks/mask_7.png")]}, ()),
    "train and trainannot": (
        {"train": [("train/a.jpg", "trainannot/a.png")],
         "validation": [("val/b.jpg", "valannot/b.png")]},
        ("test/c.jpg",),  # No masks of a whole split: it is left out.
    ),
    "split first": (
        {"train": [("train/images/a.png", "train/masks/a.png")],
         "test": [("test/images/a.png", "test/masks/a.png")]},
        (),
    ),
    "Carvana": ({"train": [("train/a.jpg", "train_masks/a_mask.gif")]}, ()),
    "COCO": (
        {"train": [("images/train2017/1.jpg", "annotations/train2017/1.png")],
         "validation": [("images/val2017/2.jpg", "annotations/val2017/2.png")]},
        (),
    ),
    "nnU-Net": (
        {"train": [("imagesTr/case_01_0000.png", "labelsTr/case_01.png"),
                   ("imagesTr/case_02_0000.png", "labelsTr/case_02.png")]},
        ("imagesTs/case_03_0000.png",),
    ),
    "folders within": (
        {"": [("images/north/1.png", "masks/north/1.png"),
              ("images/south/1.png", "masks/south/1.png")]},
        (),
    ),
    "hidden": ({"": [("images/a.png", "masks/a.png")]}, (".trash/b.png", "images/.c.png")),
}  # fmt: skip


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(root / name)


def relative(root, pairs):
    return {
        split: [tuple(f.relative_to(root).as_posix() for f in pair) for pair in some]
        for split, some in pairs.items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_meet_their_masks(layout, tmp_path):
    want, others = LAYOUTS[layout]
    write(tmp_path, *others, *(name for pairs in want.values() for pair in pairs for name in pair))
    told, pairs, faults = find_pairs(tmp_path)
    assert relative(tmp_path, pairs) == want and faults == []
    picture, mask = next(iter(want.values()))[0]
    for name in (picture, mask):
        assert f"{name.rpartition('/')[0] or '.'}/" in told


def test_lists_of_voc_choose_and_split(tmp_path):
    voc = tmp_path / "VOC2012"
    lists = voc / "ImageSets" / "Segmentation"
    names = ("2007_01", "2007_02", "2007_03")
    write(voc, *(f"JPEGImages/{n}.jpg" for n in (*names, "2008_unused")))
    write(
        voc,
        *(
            f"{folder}/{n}.png"
            for n in names
            for folder in ("SegmentationClass", "SegmentationObject")
        ),
    )
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_01\n2007_03\n")
    (lists / "val.txt").write_text("2007_02\n")
    (lists / "trainval.txt").write_text("\n".join(names))
    told, pairs, faults = find_pairs(tmp_path)
    pair = "VOC2012/JPEGImages/{0}.jpg", "VOC2012/SegmentationClass/{0}.png"
    of = [tuple(part.format(name) for part in pair) for name in names]
    assert relative(tmp_path, pairs) == {"train": [of[0], of[2]], "validation": [of[1]]}
    assert faults == [] and "ImageSets" in told
    (lists / "val.txt").write_text("2007_02\n2007_09\n")
    (fault,) = find_pairs(tmp_path)[2]
    assert fault.file.name == "2007_09" and "is listed" in fault.what


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "holds no pictures"),
        (("images/a.png", "b.png"), "holds no masks beside 2"),
        (("masks/a.png",), "holds no pictures beside 1"),
        (("images/a.png", "masks/b.png"), "holds no pair: .*a.png is a picture without a mask"),
    ],
)
def test_what_is_no_data_set_is_one_error(names, words, tmp_path):
    write(tmp_path, *names)
    with pytest.raises(ValueError, match=words):
        find_pairs(tmp_path)


def test_splits_are_told_by_words():
    words = {"train": "train", "Training": "train", "imagesTr": "train", "val2017": "validation",
             "valid": "validation", "validation_masks": "validation", "test": "test", "labelsTs":
             "test", "images": "", "trains": "", "2017": ""}  # fmt: skip
    assert {word: split_of(word) for word in words} == words


def test_folders_of_classes_are_told_from_others(tmp_path):
    write(tmp_path, "cat/1.jpg", "dog/1.jpg", "notes.png")
    (tmp_path / "bird").mkdir()
    found = class_folders(tmp_path)
    assert {key: [f.name for f in files] for key, files in found.items()} == {
        ("", "cat"): ["1.jpg"], ("", "dog"): ["1.jpg"], ("", "bird"): [],
    }  # fmt: skip
    write(tmp_path / "split", "train/cat/1.jpg", "val/cat/2.jpg")
    assert set(class_folders(tmp_path / "split")) == {("train", "cat"), ("validation", "cat")}
    write(tmp_path / "masks", "images/1.jpg", "masks/1.png")
    assert class_folders(tmp_path / "masks") == {}
