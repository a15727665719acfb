"""Every usual layout, spelt out by hand: which picture meets which mask, in which split."""

import unicodedata

import pytest
from PIL import Image

from experiments.folders.layouts import find_pairs, natural, split_of

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
    "PNG masks": ({"": [("png_images/a.jpg", "png_masks/a.png")]}, ()),
    "segmentation masks": ({"": [("images/a.jpg", "segmentation_masks/a.png")]}, ()),
    "two endings": ({"": [("images/a.jpg", "masks/a.jpg.png")]}, ()),
    "numbers with zeros": (
        {"": [("images/1.png", "masks/mask_001.png"), ("images/10.png", "masks/mask_010.png")]}, (),
    ),
    "equal names before numbers": (
        {"": [("images/01.png", "masks/mask_01.png"), ("images/1.png", "masks/1.png")]}, (),
    ),
    "Oxford-IIIT Pet": (
        {"": [("images/Birman_1.jpg", "annotations/trimaps/Birman_1.png")]},
        ("annotations/trimaps/._Birman_1.png",),
    ),
    "mmsegmentation": (
        {"train": [("img_dir/train/a.jpg", "ann_dir/train/a.png")],
         "validation": [("img_dir/val/b.jpg", "ann_dir/val/b.png")]},
        (),
    ),
    "Roboflow": (
        {"train": [("train/a_jpg.rf.1f.jpg", "train/a_jpg.rf.1f_mask.png")],
         "validation": [("valid/b_jpg.rf.2e.jpg", "valid/b_jpg.rf.2e_mask.png")]},
        (),
    ),
    "Cityscapes": (
        {"train": [("leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png",
                    "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png")],
         "validation": [("leftImg8bit/val/bonn/bonn_000000_000001_leftImg8bit.png",
                         "gtFine/val/bonn/bonn_000000_000001_gtFine_labelIds.png")]},
        ("gtFine/train/ulm/ulm_000000_000019_gtFine_color.png",
         "gtFine/train/ulm/ulm_000000_000019_gtFine_instanceIds.png"),
    ),
    "Cityscapes for training": (
        {"train": [("leftImg8bit/train/ulm/ulm_0_1_leftImg8bit.png",
                    "gtFine/train/ulm/ulm_0_1_gtFine_labelTrainIds.png")]},
        ("gtFine/train/ulm/ulm_0_1_gtFine_labelIds.png",),
    ),
    "folders within": (
        {"": [("images/north/1.png", "masks/north/1.png"),
              ("images/south/1.png", "masks/south/1.png")]},
        (),
    ),
    "pictures in a folder of any name": (
        {"": [("raw/1.png", "masks/1.png"), ("raw/2.png", "masks/mask_02.png")]}, ("about.png",),
    ),
    "truth": ({"": [("Original/1.jpg", "Ground Truth/1.png")]}, ()),
    "any name in splits": (
        {"train": [("train/scans/a.png", "train/masks/a.png")],
         "validation": [("val/scans/b.png", "val/masks/b.png")]},
        (),
    ),
    "any name above": (
        {"": [("own/rgb/north/1.png", "own/masks/north/1.png"),
              ("own/rgb/south/1.png", "own/masks/south/1.png")]},
        (),
    ),
    "Kaggle's CamVid": (
        {"train": [("train/0001TP_006690.png", "train_labels/0001TP_006690_L.png")],
         "validation": [("val/0016E5_07959.png", "val_labels/0016E5_07959_L.png")],
         "test": [("test/Seq05VD_f00000.png", "test_labels/Seq05VD_f00000_L.png")]},
        (),
    ),
    "left and right": (
        {"": [("images/a_L.png", "masks/a_L_mask.png"), ("images/a_R.png", "masks/a_R_mask.png")]},
        (),
    ),
    "a folder for each case": (
        {"": [("s1/image.png", "s1/mask.png"), ("s2/image.png", "s2/mask.png")]}, (),
    ),
    "a folder for each case of a split": (
        {"train": [("train/s1/img.png", "train/s1/label.png")],
         "test": [("test/s2/img.png", "test/s2/label.png")]},
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


def test_what_is_left_aside_is_told(tmp_path):
    write(tmp_path, "images/a.png", "masks/a.png", "depth/a.png", "depth/b.png", "test/c.png")
    told, _, faults = find_pairs(tmp_path)
    assert told.endswith("masks in masks/; left aside: 3 picture(s) in depth/, test/")
    assert faults == []


def test_numbers_that_two_could_mean_are_not_guessed(tmp_path):
    write(tmp_path, "images/a.png", "masks/a.png", "images/1.png", "masks/mask_01.png",
          "masks/mask_001.png")  # fmt: skip
    _, pairs, faults = find_pairs(tmp_path)
    assert len(pairs[""]) == 1 and {f.kind for f in faults} == {"unmatched"} and len(faults) == 3


def test_masks_of_two_sides_have_no_one_picture(tmp_path):
    write(tmp_path, *(f"images/{n}.png" for n in "ab"), "masks/b.png",
          *(f"masks/a_{side}.png" for side in "LR"))  # fmt: skip
    _, pairs, faults = find_pairs(tmp_path)
    assert relative(tmp_path, pairs) == {"": [("images/b.png", "masks/b.png")]}
    assert [f.file.name for f in faults] == ["a.png", "a_L.png", "a_R.png"]


def test_pictures_that_lie_nearer_are_taken(tmp_path):
    write(tmp_path, "a.jpg", "b.jpg", "masks/a.png", "masks/b.png", "thumbs/a.jpg", "thumbs/b.jpg")
    _, pairs, faults = find_pairs(tmp_path)
    assert [image.parent for image, _ in pairs[""]] == 2 * [tmp_path]
    assert {f.file.parent.name for f in faults} == {"thumbs"}


def test_two_folders_that_could_be_the_masks_are_named(tmp_path):
    drive = tmp_path / "DRIVE" / "training"
    for n in (21, 22):
        write(drive, f"images/{n}_training.tif", f"1st_manual/{n}_manual1.gif",
              f"mask/{n}_training_mask.gif")  # fmt: skip
    (fault,) = find_pairs(tmp_path)[2]
    assert (fault.kind, fault.file, fault.warning) == ("folders", drive / "1st_manual", False)
    assert "DRIVE/training/mask/" in fault.what
    write(tmp_path / "twice", *(f"{folder}/{n}.png" for folder in ("images", "labels", "masks")
                                for n in "abc"))  # fmt: skip
    (fault,) = find_pairs(tmp_path / "twice")[2]
    assert fault.file == tmp_path / "twice" / "masks" and "labels" in fault.what


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
        (
            ("images/a.png", "masks_box/a.png", "masks_disc/a.png"),
            "holds no masks .* name the masks' masks/ .is it masks_box/, masks_disc/.., take",
        ),
        (("raw/a.png", "depth/a.png", "masks/a.png"), "no pair: .*name .* of the pictures images/"),
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


def test_a_name_that_goes_on_with_a_number_is_sorted_with_the_others(tmp_path):
    names = ["scan10", "scan", "scan9", "10", "9b", "s", "scan9b", ""]
    assert sorted(names, key=natural) == ["", "9b", "10", "s", "scan", "scan9", "scan9b", "scan10"]
    write(tmp_path, *(f"{f}/{n}.png" for f in ("images", "masks") for n in ("scan", "scan1")))
    assert len(find_pairs(tmp_path)[1][""]) == 2


def test_links_to_folders_are_followed_once(tmp_path):
    write(tmp_path / "far", "images/a.png", "masks/a.png")
    (tmp_path / "near").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "near" / name).symlink_to(tmp_path / "far" / name)
    (tmp_path / "far" / "images" / "loop").symlink_to(tmp_path / "far" / "images")
    _, pairs, faults = find_pairs(tmp_path / "near")
    assert relative(tmp_path / "near", pairs) == {"": [("images/a.png", "masks/a.png")]}
    assert faults == []


@pytest.mark.parametrize("name", ["aa", "current", "latest", "zz"])
def test_a_link_beside_what_it_stands_for_changes_nothing(name, tmp_path):
    splits = ("train", "val")
    write(tmp_path / "own", *(f"{s}/{k}/{s}.png" for s in splits for k in ("images", "masks")))
    write(tmp_path, "images/else.png", "masks/else.png")
    (tmp_path / "own" / name).symlink_to(tmp_path / "own" / "train")
    (tmp_path / "own" / "up").symlink_to(tmp_path)
    _, pairs, faults = find_pairs(tmp_path / "own")
    assert {split: len(some) for split, some in pairs.items()} == {"train": 1, "validation": 1}
    assert faults == []


def test_accents_written_in_two_ways_are_one_name(tmp_path):
    one, two = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert one != two
    write(tmp_path, f"images/{one}.png", f"masks/{two}.png")
    assert len(find_pairs(tmp_path)[1][""]) == 1


def test_lists_that_are_hidden_or_no_text(tmp_path):
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    write(tmp_path, "JPEGImages/a.png", "SegmentationClass/a.png")
    (lists / "train.txt").write_text("a\n")
    (lists / "._train.txt").write_bytes(b"\x00\x05\xff")  # As macOS leaves beside it.
    assert list(find_pairs(tmp_path)[1]) == ["train"]
    (lists / "val.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="val.txt is no text in UTF-8"):
        find_pairs(tmp_path)
