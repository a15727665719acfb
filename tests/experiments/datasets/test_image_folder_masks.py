"""A folder of one's own: what is understood of it, and what is read from it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.datasets import ImageFolderMasks, _understood
from experiments.folders.meanings import look
from zoo.data import open_source

SIZE = (24, 20)  # (w, h)


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


def mask(seed, values=(0, 255)):
    label = np.full(SIZE[::-1], values[0], np.uint8)
    for k, value in enumerate(values[1:]):
        label[4 * k : 4 * k + 4, seed % 8 : seed % 8 + 6] = value
    return label


def fill(root, count, *, images="images", masks="masks", first=0, values=(0, 255)):
    for folder in (images, masks):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        picture(i).save(root / images / f"p{i}.jpg", quality=95, subsampling=0)
        Image.fromarray(mask(i, values)).save(root / masks / f"p{i}.png")
    return root


def opened(root, split="train", **options):
    return open_source("image_folder_masks", split, path=str(root), options=options)


def names(root, **options):
    builder = ImageFolderMasks(path=root, **options)
    return {split: set(some) for split, some in builder.understood["splits"].items() if some}


def contents(root):
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in root.rglob("*") if f.is_file()}


def test_masks_of_0_and_255_are_mapped_and_nothing_is_written(tmp_path):
    before = contents(fill(tmp_path, 10))
    found = {}
    for split in ("train", "validation"):
        source = opened(tmp_path, split)
        found[split] = [example["name"] for example in source]
        for example in source:
            number = int(example["name"].removeprefix("images/p").removesuffix(".jpg"))
            np.testing.assert_array_equal(example["label"], mask(number) // 255)
            with Image.open(tmp_path / example["name"]) as image:
                np.testing.assert_array_equal(example["image"], np.asarray(image))
    assert sorted([*found["train"], *found["validation"]]) == sorted(
        f"images/p{i}.jpg" for i in range(10)
    )
    info = source.info
    assert (info.num_classes, info.class_names) == (2, ("class 0", "class 255"))
    assert info.channels == 3 and len(set(info.colours)) == 2
    assert contents(tmp_path) == before


def test_mean_and_deviation_are_those_of_the_training_pixels(tmp_path):
    source = opened(fill(tmp_path, 8))
    pixels = np.concatenate([e["image"].reshape(-1, 3) for e in source]).astype(np.float64) / 255
    np.testing.assert_allclose(source.info.mean, pixels.mean(0), atol=1e-4)
    np.testing.assert_allclose(source.info.std, pixels.std(0), atol=1e-4)


def test_what_was_understood_is_json_with_all_that_a_reader_asks_for(tmp_path):
    fill(tmp_path, 6, values=(0, 3, 7, 255))
    told = ImageFolderMasks(path=tmp_path).understood
    assert json.loads(json.dumps(told)) == told
    # 255 beside ids with gaps is a class: only beside 0..n is it void.
    assert told["mapping"] == {"0": 0, "3": 1, "7": 2, "255": 3}
    share = np.mean([mask(i, (0, 3, 7, 255)) == 3 for i in range(6)])
    assert told["classes"][1]["share"] == pytest.approx(share, abs=1e-6)
    assert told["sizes"] == {"smallest": [20, 24], "median": [20, 24], "largest": [20, 24]}
    assert (told["pictures"], told["channels"], told["masks"]) == (6, 3, "ids")


def test_some_masks_with_a_palette_among_colours_are_read_as_if_all_were_in_colour(tmp_path):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    for i in range(6):
        fill(tmp_path, 1, first=i, values=(0, 1, 2))
        drawn = Image.fromarray(colours[np.ones_like(mask(i)) if i == 3 else mask(i, (0, 1, 2))])
        drawn = drawn.quantize(4) if i % 3 == 0 else drawn  # Its palette is in another order.
        drawn.save(tmp_path / "masks" / f"p{i}.png")
    sources = [opened(tmp_path, split) for split in ("train", "validation")]
    assert sources[0].info.class_names == ("class #000000", "class #0000ff", "class #ff0000")
    assert ImageFolderMasks(path=tmp_path).understood["spacing"]["object"] < 20
    for example in (example for source in sources for example in source):
        i = int(example["name"].removeprefix("images/p").removesuffix(".jpg"))
        ids = np.ones_like(mask(i)) if i == 3 else mask(i, (0, 1, 2))
        np.testing.assert_array_equal(example["label"], np.array([0, 2, 1])[ids])


def test_a_folder_is_told_as_it_is_called(tmp_path, monkeypatch):
    fill(tmp_path / "own", 6)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "own", "own", "./link"):
        told = ImageFolderMasks(path=name).understood
        assert told["folder"] == str(Path(name)) and told["pictures"] == 6


def test_a_folder_is_understood_once_whatever_says_its_channels(tmp_path, monkeypatch):
    """The plan opens it with 0, for those found, and training with these."""
    fill(tmp_path / "own", 4)
    looked = []
    monkeypatch.setattr(_understood, "look", lambda mask: looked.append(mask) or look(mask))
    first, again = (ImageFolderMasks(path=tmp_path / "own", channels=n).understood for n in (0, 3))
    assert len(looked) == 4 and first == again


def test_void_beside_consecutive_ids_is_not_learnt(tmp_path):
    source = opened(fill(tmp_path, 6, values=(0, 1, 2, 255)))
    assert source.info.num_classes == 3
    assert {int(v) for example in source for v in np.unique(example["label"])} == {0, 1, 2, 255}


def test_another_seed_draws_another_split(tmp_path):
    fill(tmp_path, 30)
    first, again, other = (names(tmp_path, split_seed=seed) for seed in (0, 0, 1))
    assert first == again == names(tmp_path) and other != first
    assert set.union(*first.values()) == set.union(*other.values())


def test_splits_of_folders_are_kept(tmp_path):
    fill(tmp_path, 3, images="train/images", masks="train/masks")
    fill(tmp_path, 2, images="val/images", masks="val/masks", first=3)
    assert names(tmp_path) == {
        "train": {f"train/images/p{i}.jpg" for i in range(3)},
        "validation": {f"val/images/p{i}.jpg" for i in (3, 4)},
    }


def test_training_pictures_alone_give_some_to_validation(tmp_path):
    fill(tmp_path, 8, images="train/images", masks="train/masks")
    fill(tmp_path, 2, images="test/images", masks="test/masks", first=8)
    found = names(tmp_path)
    assert found["test"] == {f"test/images/p{i}.jpg" for i in (8, 9)}
    assert found["train"] | found["validation"] == {f"train/images/p{i}.jpg" for i in range(8)}
    assert not found["train"] & found["validation"] and found["validation"]


def test_what_is_added_moves_no_other(tmp_path):
    before = names(fill(tmp_path, 12))
    after = names(fill(tmp_path, 6, first=12))
    for split in before:
        assert before[split] <= after[split]


def test_pictures_that_are_nearly_the_same_share_a_split(tmp_path):
    fill(tmp_path, 12)
    for i in range(12):  # Less contrast, and not through a JPEG.
        picture(i).point(lambda v: 0.8 * v + 30).save(tmp_path / "images" / f"q{i}.png")
        Image.fromarray(mask(i)).save(tmp_path / "masks" / f"q{i}.png")
    found = names(tmp_path)
    assert len(found) == 2
    for some in found.values():
        assert {n[:-4].replace("/p", "/q") for n in some} == {
            n[:-4].replace("/p", "/q") for n in some if "/p" in n
        }
        assert sum("/p" in n for n in some) == sum("/q" in n for n in some)


def test_groups_share_a_split(tmp_path):
    found = names(fill(tmp_path, 30), group="p[0-9](?=[0-9])")  # p1x together, p2x together.
    for ten in ("1", "2"):
        group = {f"images/p{ten}{i}.jpg" for i in range(10)}
        assert sum(bool(group & some) for some in found.values()) == 1
    with pytest.raises(ValueError, match="no regular expression"):
        ImageFolderMasks(path=tmp_path, group="(")


def test_a_table_names_the_classes(tmp_path):
    fill(tmp_path, 6, values=(0, 1, 2))
    before = ImageFolderMasks(path=tmp_path).data_dir
    (tmp_path / "classes.csv").write_text("name,id\nground,0\nhouse,1\nvoid,2\n")
    source = opened(tmp_path)
    assert source.info.class_names == ("ground", "house")
    assert {int(v) for example in source for v in np.unique(example["label"])} == {0, 1, 255}
    assert ImageFolderMasks(path=tmp_path).data_dir != before


def test_grey_pictures_have_one_channel(tmp_path):
    fill(tmp_path, 6)
    for file in (tmp_path / "images").iterdir():
        with Image.open(file) as image:
            image.convert("L").save(file)
    source = opened(tmp_path)
    assert source.info.channels == 1 == len(source.info.mean) and source[0]["image"].shape[-1] == 1
    wide = opened(tmp_path, channels=3)
    assert wide.info.mean == 3 * source.info.mean and wide.info.std == 3 * source.info.std
    np.testing.assert_array_equal(wide[0]["image"], source[0]["image"].repeat(3, -1))


def test_colour_is_read_as_grey_where_that_is_asked_for(tmp_path):
    source = opened(fill(tmp_path, 6), channels=1)
    pixels = np.concatenate([e["image"].ravel() for e in source]).astype(np.float64) / 255
    np.testing.assert_allclose(source.info.mean, [pixels.mean()], atol=1e-4)
    np.testing.assert_allclose(source.info.std, [pixels.std()], atol=1e-4)
    assert names(tmp_path) == names(tmp_path, channels=1)
    with pytest.raises(ValueError, match="takes channels=1 or 3, or 0 for .*, not 2"):
        ImageFolderMasks(path=tmp_path, channels=2)


def soft(root):
    label = Image.fromarray(mask(3)).rotate(20, Image.Resampling.BICUBIC)
    label.save(root / "masks" / "p3.png")


def jpeg(root):
    (root / "masks" / "p3.png").unlink()
    Image.fromarray(mask(3)).save(root / "masks" / "p3.jpg")


def cut(root):
    file = root / "images" / "p3.jpg"
    file.write_bytes(file.read_bytes()[:200])


def one(root):
    for file in [*root.glob("images/p[1-9].jpg"), *root.glob("masks/p[1-9].png")]:
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (soft, r"p3.png holds \d+ stray value\(s\), \d+, .*anti-aliased.*classes.csv"),
        (jpeg, r"p3.jpg is a JPEG, .*\(it holds 0, "),
        (cut, "p3.jpg cannot be read as a picture"),
        (one, "holds one picture with a mask, and one cannot both train and validate"),
        (
            lambda root: (root / "masks" / "p3.png").unlink(),
            "p3.jpg is a picture without a mask.*zoo check",
        ),
        (
            lambda root: Image.fromarray(mask(3)[:-1]).save(root / "masks" / "p3.png"),
            "p3.png is 24x19 px",
        ),
        (lambda root: [f.unlink() for f in root.glob("masks/*")], "holds no masks"),
        (lambda root: [f.unlink() for f in root.glob("images/*")], "holds no pictures"),
        (lambda root: [f.unlink() for f in root.glob("*/*")], "holds no pictures"),
    ],
)
def test_bad_folders_are_one_clear_error(spoil, words, tmp_path):
    spoil(fill(tmp_path, 6))
    with pytest.raises(ValueError, match=words):
        opened(tmp_path)


def test_pictures_of_one_group_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match=r"6 pictures are 1 group\(s\)"):
        opened(fill(tmp_path, 6), group="images")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="none is no folder"):
        opened(tmp_path / "none")


def test_lists_of_voc_that_are_edited_are_followed(tmp_path):
    """Though no picture or mask, nor its place, is another."""
    fill(tmp_path, 10, images="JPEGImages", masks="SegmentationClass")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for count in (7, 6):
        (lists / "train.txt").write_text("".join(f"p{i}\n" for i in range(count)))
        (lists / "val.txt").write_text("".join(f"p{i}\n" for i in range(count, 10)))
        for split, some in (("train", range(count)), ("validation", range(count, 10))):
            want = [f"JPEGImages/p{i}.jpg" for i in some]
            assert names(tmp_path)[split] == {*want}
            assert [example["name"] for example in opened(tmp_path, split)] == want


def test_links_that_are_moved_between_splits_are_followed(tmp_path):
    """All to one store, as data are laid out that several people cut differently."""
    store = fill(tmp_path / "store", 8)
    for i in range(8):
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            folder = tmp_path / "own" / ("train" if i < 5 else "val") / kind
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"p{i}.{ending}").symlink_to(store / kind / f"p{i}.{ending}")
    assert len(opened(tmp_path / "own")) == 5
    for file in (tmp_path / "own" / "train").rglob("p4.*"):
        file.rename(tmp_path / "own" / "val" / file.parent.name / file.name)
    assert names(tmp_path / "own")["validation"] == {f"val/images/p{i}.jpg" for i in range(4, 8)}
    assert len(opened(tmp_path / "own")) == 4 == len(opened(tmp_path / "own", "validation"))
