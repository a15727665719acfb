"""All faults that a script plants are found, each by its file, and none in clean folders."""

import importlib.util
import json
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from experiments import embed_folder, plan, segment_folder
from experiments.folders.check import check_folder
from zoo.__main__ import main
from zoo.data.images import read_image

HERE = pathlib.Path(__file__).parent
spec = importlib.util.spec_from_file_location("planted", HERE / "planted.py")
planted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(planted)


def contents(root):
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in root.rglob("*") if f.is_file()}


def check(root):
    """{(kind, file, must be mended)}; nothing of the folder may change."""
    before = contents(root)
    _, faults = check_folder(root)
    assert contents(root) == before
    for fault in faults:
        assert fault.what and fault.remedy, fault
    return {(fault.kind, fault.file, not fault.warning) for fault in faults}, faults


def named(found, faults, told):
    """Whether what was planted is among the faults; a message about two files names the other."""
    kind, file, *warning = told
    if (kind, file, not warning) in found:
        return True
    return any(
        f.kind == kind and file.name in f"{f.file} {f.what}" and f.warning == bool(warning)
        for f in faults
    )


def test_there_are_enough():
    assert len(planted.MASKS) + len(planted.CLASSES) >= 25 and len(planted.SEVERAL) == 5


def test_a_clean_folder_has_none(tmp_path):
    assert check(planted.clean(tmp_path / "masks"))[0] == set()
    assert check(planted.clean_classes(tmp_path / "classes"))[0] == set()


@pytest.mark.parametrize("plant", planted.MASKS, ids=lambda plant: plant.__name__)
def test_a_fault_of_masks_is_found_alone(plant, tmp_path):
    told = plant(planted.clean(tmp_path))
    found, faults = check(tmp_path)
    assert named(found, faults, told), faults
    # What follows from it may be told, too, but no other file is to be mended.
    others = {f.file for f in faults if not f.warning} - {told[1], tmp_path}
    assert not others or told[0] in ("duplicate", "name"), faults


@pytest.mark.parametrize("plant", planted.CLASSES, ids=lambda plant: plant.__name__)
def test_a_fault_of_classes_is_found_alone(plant, tmp_path):
    told = plant(planted.clean_classes(tmp_path))
    found, faults = check(tmp_path)
    assert named(found, faults, told) and len(found) == 1, faults


@pytest.mark.parametrize("several", planted.SEVERAL, ids=range(5))
def test_several_faults_are_found_at_once(several, tmp_path):
    planted.clean(tmp_path)
    told = [plant(tmp_path) for plant in several]
    found, faults = check(tmp_path)
    assert [t for t in told if not named(found, faults, t)] == [], faults


def test_the_command_tells_by_its_exit_code(tmp_path, capsys):
    root = planted.clean(tmp_path)
    assert main(["check", str(root)]) == 0
    assert "0 fault(s) to mend, 0 warning(s)" in capsys.readouterr().out
    planted.empty_mask(root)
    assert main(["check", str(root)]) == 0
    assert "warning" in capsys.readouterr().out.splitlines()[0]
    _, file = planted.small_mask(root)
    assert main(["check", str(root)]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("mend") and str(file) in first and "make them equal" in first
    assert main(["check", str(root), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    kinds = {(fault["kind"], fault["file"], fault["warning"]) for fault in told["faults"]}
    assert ("size", str(file), False) in kinds and len(kinds) == 2


def spoil_masks(root):
    for file in root.rglob("masks/*"):
        file.unlink()


def spoil_images(root):
    for file in root.rglob("images/*"):
        file.unlink()


def spoil_all(root):
    for file in root.rglob("*.png"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_all, "holds no pictures"),
        (spoil_masks, "holds no masks beside 10 other files"),
        (spoil_images, "holds no pictures beside 10 other files"),
    ],
)
def test_a_folder_of_nothing_to_check_is_one_line(spoil, words, tmp_path, capsys):
    spoil(planted.clean(tmp_path))
    assert main(["check", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert main(["check", str(tmp_path), "--json"]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert words in fault["what"] and fault["remedy"] and not fault["warning"]


def test_no_folder_is_one_line(tmp_path, capsys):
    assert main(["check", str(tmp_path / "none")]) == 2
    assert "none is no folder" in capsys.readouterr().err


def test_pictures_that_are_all_the_same_are_one_warning(tmp_path):
    root = planted.clean(tmp_path, splits=("train",), count=12)  # p00 to p011.
    for n in range(3, 12):
        Image.new("RGB", planted.SIZE).save(planted.image(root, n))
    planted.twice_in_one_split(root)  # The third is the first.
    twice, black = sorted(check(root)[1], key=lambda fault: fault.file)
    assert twice.what == f"is the same picture as {planted.image(root, 3)}" and twice.warning
    assert black.what == f"is the same picture as {planted.image(root, 5)}, and 6 more are"
    assert black.file == planted.image(root, 4) and black.warning
    assert black.remedy == "keep one of them"


def test_the_worst_of_a_group_is_told(tmp_path):
    root = planted.clean(tmp_path)
    for n, split in ((1, 0), (2, 0), (4, 1)):
        planted.picture(99).save(planted.image(root, n, split))
    (fault,) = [f for f in check(root)[1] if f.kind == "duplicate"]
    assert fault.file == planted.image(root, 1) and not fault.warning
    assert fault.what == (
        f"is the same picture as {planted.image(root, 4, 1)} of another split, and 1 more is"
    )


@pytest.mark.parametrize(
    ("tags", "of", "words", "mild"),
    [
        ((6, 1), "images", "(6), its mask p03.png is not", False),
        ((3, 1), "images", "(3), its mask p03.png is not", True),
        ((1, 6), "masks", "(6), its picture p03.png is not", False),
        ((1, 3), "masks", "(3), its picture p03.png is not", True),
        ((3, 6), "images", "(3), its mask p03.png by another (6)", False),
        ((6, 8), "images", "(6), its mask p03.png by another (8)", True),
        ((6, 6), None, "", None),
        ((1, 9), None, "", None),  # No orientation, and turned by nobody.
    ],
)
def test_who_of_a_pair_is_turned_by_exif_is_told(tags, of, words, mild, tmp_path):
    root = planted.clean(tmp_path)
    files = planted.image(root, 3), planted.mask(root, 3)
    for file, tag in zip(files, tags, strict=True):
        with Image.open(file) as opened:
            planted.with_exif(file, tag, opened.copy())
    told = [(f.file, f.what, f.warning) for f in check(root)[1]]
    file = files[of == "masks"]
    assert told == ([(file, f"is turned by its EXIF tag {words}", mild)] if of else [])


def test_one_picture_is_too_few(tmp_path):
    root = planted.clean(tmp_path, splits=("train",), count=1)
    assert ("few", planted.image(root, 0), True) in check(root)[0]


def copies(root):
    planted.clean(root, splits=("train",), count=4)
    for n in (1, 2, 3):
        planted.picture(0).save(planted.image(root, n))
    return "4 pictures are 1 group(s) of near-duplicates"


def validation_alone(root):
    planted.clean(root)
    for file in (root / "train").rglob("*.png"):
        file.unlink()
    return "has validation, but nothing to train with"


def one_class(root):
    planted.clean_classes(root, splits=("",))
    for file in (root / "dog").iterdir():
        file.rename(root / "cat" / f"dog{file.name}")
    (root / "dog").rmdir()
    return "is the only class, and it takes two to tell apart"


def copies_in_classes(root):
    planted.clean_classes(root, splits=("",))
    for file in root.rglob("*.png"):
        planted.picture(0).save(file)
    return "8 pictures are 1 group(s) of near-duplicates"


def pairs_of_classes(root):
    planted.clean_classes(root, splits=("",))
    for file in root.rglob("[23].png"):
        file.unlink()
    return "4 pictures of 2 classes do not leave two of one class"


def no_validation(root):
    planted.clean_classes(root, splits=("train", "test"))
    return "gives splits, but no validation"


@pytest.mark.parametrize(
    "make",
    [copies, validation_alone, one_class, copies_in_classes, no_validation, pairs_of_classes],
)
def test_what_a_run_refuses_is_to_be_mended(make, tmp_path):
    words = make(tmp_path / "own")
    _, faults = check(tmp_path / "own")
    assert any(words in f.what and not f.warning for f in faults), faults
    of_masks = make in (copies, validation_alone)
    with pytest.raises(ValueError, match=re.escape(words)):
        plan.planned(
            segment_folder if of_masks else embed_folder,
            [f"data.path={tmp_path / 'own'}"],
            tmp_path / "run",
        )


@pytest.mark.parametrize(
    "place",
    ["raw/{}.png masks/{}.png", "{}/image.png {}/mask.png", "train/{}.png train_labels/{}_L.png"],
)
def test_a_folder_is_the_same_to_check_and_to_a_run(place, tmp_path):
    for i in range(6):
        image, mask = (tmp_path / "own" / name.format(f"p{i}") for name in place.split())
        for file in (image, mask):
            file.parent.mkdir(parents=True, exist_ok=True)
        planted.picture(i).save(image)
        planted.save(planted.ids(i), mask)
    taken, faults = check_folder(tmp_path / "own")
    assert faults == [] and taken.startswith("pictures in ") and "masks in " in taken
    _, files, _ = plan.planned(segment_folder, [f"data.path={tmp_path / 'own'}"], tmp_path / "run")
    assert json.loads(files["dataset.json"])["pictures"] == 6
    with pytest.raises(
        ValueError, match="holds pictures and masks, .*segment_folder.* named as masks are"
    ):
        plan.planned(embed_folder, [f"data.path={tmp_path / 'own'}"], tmp_path / "run")


def test_left_aside_is_told(tmp_path):
    root = planted.clean_classes(tmp_path)
    (root / "train" / "cat" / "9.heic").write_bytes(b"x")
    assert check_folder(root)[0].endswith("2 classes; left aside: 1 .heic")


@pytest.mark.parametrize("name", ["isbi2012", "orl_faces"])
def test_nothing_is_found_in_real_folders(name, shared_data):
    """Neither has a fault that its README does not tell."""
    assert check_folder(shared_data / name)[1] == []


@pytest.mark.slow
def test_nothing_is_found_in_road_scenes(shared_data):
    assert check_folder(shared_data / "camvid")[1] == []


NO_TEXT = os.fsdecode(b"caf\xe9")  # As a system of Latin-1 wrote it.


def rename_pairs(root):
    planted.clean(root)
    return [f.rename(f.with_stem(NO_TEXT)) for f in (planted.image(root), planted.mask(root))]


def rename_a_class(root):
    planted.clean_classes(root)
    return [(root / "train" / "dog").rename(root / "train" / NO_TEXT)]


@pytest.mark.parametrize("spoil", [rename_pairs, rename_a_class])
def test_names_that_are_no_text_are_told_in_text(spoil, tmp_path, capsys):
    """And nothing else is: what is printed is UTF-8, or it would raise here."""
    files = spoil(tmp_path / "my own")
    assert check(tmp_path / "my own")[0] == {("name", file, True) for file in files}
    assert main(["check", str(tmp_path / "my own")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(files) + 1 and "caf\\udce9" in lines[0]
    assert lines[0].endswith("has a name that is no UTF-8: rename it")
    assert main(["check", str(tmp_path / "my own"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["faults"]
    assert {fault["file"] for fault in told} == {str(file) for file in files}
    words = "has a name that is no UTF-8: rename it; .* zoo check '.*/my own' "
    with pytest.raises(ValueError, match=words):
        module = segment_folder if spoil is rename_pairs else embed_folder
        plan.planned(module, [f"data.path={tmp_path / 'my own'}"], tmp_path / "run")


def test_masks_of_which_no_value_is_known_are_all_told(tmp_path):
    """JPEGs beside a table of classes."""
    planted.clean(tmp_path)
    masks = sorted(tmp_path.glob("*/masks/*.png"))
    for mask in masks:
        with Image.open(mask) as image:
            image.convert("L").save(mask.with_suffix(".jpg"))
        mask.unlink()
    (tmp_path / "classes.csv").write_text("name,id\nground,0\nthing,1\n")
    _, faults = check(tmp_path)
    assert len([f for f in faults if "is a JPEG" in f.what]) == len(masks)


@pytest.mark.parametrize(("highest", "told"), [(4095, 17), (2**14, None), (65535, None)])
def test_pictures_of_12_bits_in_files_of_16_are_told(highest, told, tmp_path):
    planted.clean(tmp_path)
    rng, levels = np.random.default_rng(0), set()
    for file in tmp_path.glob("*/images/*.png"):
        with Image.open(file) as image:
            pixels = rng.integers(0, highest + 1, image.size[::-1])
        pixels[0, 0] = highest
        Image.fromarray(pixels.astype(np.uint16)).save(file)
        levels |= {*np.unique(read_image(file, 1)).tolist()}
    faults = [f for f in check(tmp_path)[1] if f.kind == "depth"]
    assert [f.warning for f in faults] == [True] * (told is not None)
    if told:
        assert "is of 10 16-bit picture(s) with values up to 4095" in faults[0].what
        assert f": {told} grey levels are left" in faults[0].what and len(levels) == told
