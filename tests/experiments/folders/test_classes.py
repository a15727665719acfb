"""Folders of classes, spelt out by hand, and what is none."""

import pytest
from PIL import Image

from experiments.folders.classes import class_folders
from zoo.infer.files import pictures


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("") if name.endswith("t") else Image.new("L", (4, 3)).save(
            root / name
        )


def found(root):
    files, faults, aside = class_folders(root)
    return {key: [f.name for f in some] for key, some in files.items()}, faults, aside


def test_pictures_of_every_ending_are_of_their_folders_class(tmp_path):
    names = [f"1.{s}" for s in ("JPG", "bmp", "gif", "pgm", "png", "ppm", "tif", "webp")]
    write(tmp_path, *(f"cat/{name}" for name in names), "dog/2.png", "dog/10.png")
    files, faults, aside = found(tmp_path)
    assert files == {("", "cat"): names, ("", "dog"): ["2.png", "10.png"]}
    assert faults == [] and aside == ""


def test_splits_of_folders_are_told(tmp_path):
    write(tmp_path, *(f"{s}/{c}/{i}.png" for s in ("train", "val") for c in "ab" for i in (1, 2)))
    assert set(found(tmp_path)[0]) == {(s, c) for s in ("train", "validation") for c in "ab"}
    write(tmp_path / "one", *(f"train/{c}/{i}.png" for c in "ab" for i in (1, 2)))
    assert set(found(tmp_path / "one")[0]) == {("", "a"), ("", "b")}  # One is none.
    write(tmp_path / "class", *(f"{c}/{i}.png" for c in ("train", "car") for i in (1, 2)))
    assert set(found(tmp_path / "class")[0]) == {("", "train"), ("", "car")}


def test_a_mask_may_be_a_class(tmp_path):
    write(tmp_path, *(f"{c}/{c}{i}.png" for c in ("mask", "glove") for i in (1, 2)))
    assert set(found(tmp_path)[0]) == {("", "mask"), ("", "glove")}
    for other in ("no_mask", "unlabelled"):  # Numbers alike are no sign beside such a name.
        write(tmp_path / other, *(f"{c}/{i}.png" for c in ("mask", other) for i in (1, 2)))
        assert set(found(tmp_path / other)[0]) == {("", "mask"), ("", other)}


def test_a_picture_named_as_anothers_mask_is_one_of_its_class(tmp_path):
    write(tmp_path, *(f"{c}/{name}.png" for c in "ab" for name in ("front", "back", "side")))
    write(tmp_path, "b/front_label.png")
    files, faults, _ = found(tmp_path)
    assert [*map(len, files.values())] == [3, 4] and faults == []
    write(tmp_path / "more", "images/1.png", "images/2.png", "masked/3.png", "masked/4.png")
    assert len(found(tmp_path / "more")[0]) == 2  # Other names: no masks of these pictures.


@pytest.mark.parametrize(
    "names",
    [
        ("images/a.png", "masks/a.png"),
        ("images/a.png", "masks/b.png"),
        ("images/a.png", "images/b.png"),
        ("train/masks/a.png", "val/masks/b.png"),
        ("south/a.png", "south/a_mask.png"),
        *(
            [f"{folder}/{i}.png" for folder in folders for i in (1, 2)]
            for folders in (
                *((name, "masks") for name in ("raw", "rgb", "original", "scans")),
                ("Original", "Ground Truth"),
            )
        ),
        ("s1/image.png", "s1/mask.png", "s2/image.png", "s2/mask.png"),
        [f"{f}/{i}.png" for f in ("images", "masks_box", "masks_disc") for i in (1, 2)],
        ("train/1.png", "train/2.png", "train_labels/1_L.png", "train_labels/2_L.png"),
        ("leftImg8bit/train/ulm/a_leftImg8bit.png", "gtFine/train/ulm/a_gtFine_labelIds.png"),
        ("a.png", "b.png"),
        (),
    ],
)
def test_others_are_no_classes(names, tmp_path):
    write(tmp_path, *names)
    assert found(tmp_path) == ({}, [], "")


def test_a_link_to_a_folder_is_a_class_of_training_and_of_a_gallery(tmp_path):
    write(tmp_path, *(f"{c}/{i}.png" for c in ("own/cat", "far/dog") for i in (1, 2)))
    (tmp_path / "own" / "dog").symlink_to(tmp_path / "far" / "dog")
    (tmp_path / "own" / "cat" / "loop").symlink_to(tmp_path / "own")
    files, faults, _ = class_folders(tmp_path / "own")
    assert list(files) == [("", "cat"), ("", "dog")] and faults == []
    taken = [file for some in files.values() for file in some]
    assert pictures([tmp_path / "own"], deep=True) == taken and len(taken) == 4


def test_what_is_not_taken_is_told(tmp_path):
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "cat/notes.txt", "top.png",
          "cat/.hidden.txt", ".trash/3.png")  # fmt: skip
    assert found(tmp_path)[1:] == ([], "left aside: 1 .png, 1 .txt")


def test_folders_within_a_class_are_a_fault(tmp_path):
    write(tmp_path, "cat/1.png", "cat/2.png", "dog/mon/1.png", "dog/tue/1.png")
    (fault,) = found(tmp_path)[1]
    assert fault.file == tmp_path / "dog" and "2 picture(s) in folders within" in fault.what


def test_small_classes_and_stray_folders_are_faults(tmp_path):
    write(tmp_path, *(f"{s}/{c}/{i}.png" for s in ("train", "test") for c in "ab" for i in (1, 2)))
    write(tmp_path, "train/c/1.png", "extra/d/1.png")
    told = {(f.file.relative_to(tmp_path).as_posix(), f.what) for f in found(tmp_path)[1]}
    assert told == {
        ("train/c/1.png", "is of c, a class of 1 picture(s), and two are needed"),
        ("extra", "lies beside folders of splits"),
        (".", "gives splits, but no validation"),
    }


@pytest.mark.parametrize(("there", "lacking"), [("train", "val"), ("val", "train")])
def test_the_split_that_lacks_is_named(there, lacking, tmp_path):
    write(tmp_path, *(f"{s}/{c}/{i}.png" for s in (there, "test") for c in "ab" for i in (1, 2)))
    (fault,) = found(tmp_path)[1]
    assert fault.remedy.startswith(f"add {lacking}/ with folders of classes, or lay all")


def test_one_class_is_a_fault(tmp_path):
    write(tmp_path, "cat/1.png", "cat/2.png")
    (fault,) = found(tmp_path)[1]
    assert fault.file == tmp_path / "cat" and "is the only class" in fault.what
    write(tmp_path / "s", *(f"{s}/{i}.png" for s in ("train/a", "val/a", "val/b") for i in (1, 2)))
    (fault,) = found(tmp_path / "s")[1]
    assert fault.file == tmp_path / "s" / "train" / "a" and "only class of train" in fault.what


def test_a_class_that_goes_on_with_a_number_is_sorted_with_the_others(tmp_path):
    write(tmp_path, *(f"{c}/{i}.png" for c in ("cat2", "cat", "cat10") for i in (1, 2)))
    assert [name for _, name in found(tmp_path)[0]] == ["cat", "cat2", "cat10"]


def test_two_folders_of_one_split_and_class_are_a_fault(tmp_path):
    splits = ("train", "val", "validation")
    write(tmp_path, *(f"{s}/{c}/{s}{i}.png" for s in splits for c in "ab" for i in (1, 2)))
    files, faults, aside = found(tmp_path)
    assert files["validation", "a"] == [
        "val1.png",
        "val2.png",
        "validation1.png",
        "validation2.png",
    ]
    assert {f.file.parent.name for f in faults} == {"validation"} and len(faults) == 2
    assert "is a of validation, as another folder is" in faults[0].what and aside == ""
