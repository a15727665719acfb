import numpy as np
import pytest
from PIL import Image

import experiments.datasets  # noqa: F401  Makes them known by name.
from zoo.data import open_labelled

SPLITS = ("train", "validation", "test")
ENDINGS = ("png", "bmp", "PNG", "pgm", "jpg", "jpeg")


def pixels(name, number):
    """Of one colour, which a JPEG keeps; sizes differ, and no two of a size are of one colour."""
    rng = np.random.default_rng([number, *name.encode()])
    shape = *rng.integers(8, 20, 2), 3
    return np.broadcast_to(rng.integers(0, 256), shape).astype(np.uint8)


def add(folder, name, count=4):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        file = folder / name / f"{i}.{ENDINGS[i % len(ENDINGS)]}"
        image = Image.fromarray(pixels(name, i))
        (image.convert("L") if file.suffix == ".pgm" else image).save(file)


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        add(tmp_path / "root", f"class {i}", count=6)
    return tmp_path / "root"


def opened(folder, split="train", **options):
    return open_labelled("image_folder_classes", split, path=str(folder), options=options)


def where(folder, **options):
    """{name of the picture: (split, class name)}."""
    found = {}
    for split in SPLITS:
        source = opened(folder, split, **options)
        for i, example in enumerate(source):
            assert example["label"] == source.labels[i]
            found[example["name"]] = split, source.info.class_names[source.labels[i]]
    return found


@pytest.mark.parametrize("split_by", ["class", "example"])
def test_every_picture_is_in_one_split_and_of_its_folders_class(folder, split_by):
    found = where(folder, split_by=split_by)
    files = {f"{f.parent.name}/{f.name}" for f in folder.rglob("*.*")}
    assert set(found) == files and len(files) == 72
    assert all(name.partition("/")[0] == label for name, (_, label) in found.items())
    splits = {}
    for split, label in found.values():
        splits.setdefault(label, set()).add(split)
    spread = max(map(len, splits.values()))
    assert spread == 1 if split_by == "class" else spread > 1
    assert opened(folder).info.class_names == tuple(f"class {i}" for i in range(12))


@pytest.mark.parametrize("split_by", ["class", "example"])
def test_what_is_added_moves_no_other(folder, split_by):
    before = where(folder, split_by=split_by)
    add(folder, "class 3", count=6)
    Image.fromarray(pixels("class 3", 7)).save(folder / "class 3" / "new.png")
    add(folder, "another")
    after = where(folder, split_by=split_by)
    assert {name: after[name] for name in before} == before
    assert len(after) == 72 + 1 + 4


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_every_ending_and_size_are_read(folder, channels):
    source = opened(folder, channels=channels)
    assert source.info.channels == channels == len(source.info.mean)
    for example in source:
        name, _, file = example["name"].partition("/")
        want = pixels(name, int(file.split(".")[0]))[..., :channels]
        assert example["image"].shape == want.shape
        np.testing.assert_allclose(example["image"].astype(int), want, atol=1)
    assert len({e["image"].shape for e in source}) > 1


def test_hidden_and_other_files_are_left_alone(folder):
    add(folder, ".hidden")
    (folder / "class 0" / ".thumb.png").write_bytes(b"")
    (folder / "class 0" / "notes.txt").write_text("notes")
    (folder / "README").write_text("notes")
    assert len(where(folder)) == 72


def test_another_seed_draws_another_split(folder):
    for how in ("class", "example"):
        first, other = (where(folder, split_by=how, split_seed=seed) for seed in (0, 1))
        assert first == where(folder, split_by=how) and first.keys() == other.keys()
        assert first != other


def test_a_share_of_nothing_leaves_the_split_out(folder):
    assert opened(folder, validation_share=0).splits == ("train", "test")
    assert opened(folder, validation_share=0, test_share=0).splits == ("train",)


@pytest.mark.parametrize("count", [0, 1])
def test_a_class_of_fewer_than_two_pictures_is_named_with_the_way_out(folder, count):
    add(folder, "lonely", count=count)
    with pytest.raises(ValueError, match=f"lonely.*a class of {count} picture.*add some, or"):
        opened(folder)


def photo(seed, name):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    name.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC).save(name)


@pytest.mark.parametrize("split_by", ["class", "example"])
def test_pictures_that_are_nearly_the_same_share_a_split(tmp_path, split_by):
    """Each of them brighter once more, in the class beside it."""
    for c in range(10):
        for i in range(3):
            photo(10 * c + i, tmp_path / f"c{c}" / f"{i}.png")
            with Image.open(tmp_path / f"c{c}" / f"{i}.png") as image:
                bright = image.point(lambda v: 0.8 * v + 30)
            (tmp_path / f"d{c}").mkdir(exist_ok=True)
            bright.save(tmp_path / f"d{c}" / f"{i}.png")
    found = where(tmp_path, split_by=split_by)
    assert len(found) == 60 and len({split for split, _ in found.values()}) > 1
    assert all(found[name][0] == found["d" + name[1:]][0] for name in found if name[0] == "c")


def test_groups_share_a_split(tmp_path):
    for c in range(3):
        for i in range(12):
            photo(20 * c + i, tmp_path / f"c{c}" / f"day{i % 4}_{i}.png")
    found = where(tmp_path, split_by="example", group="day[0-9]")
    for day in range(4):
        assert len({split for n, (split, _) in found.items() if f"day{day}" in n}) == 1
    assert len({split for split, _ in found.values()}) > 1
    with pytest.raises(ValueError, match="no regular expression"):
        opened(tmp_path, group="(")


def test_a_folder_of_masks_is_refused_for_what_it_is(tmp_path):
    for kind in ("images", "masks"):
        for i in range(3):
            photo(i, tmp_path / kind / f"{i}.png")
    with pytest.raises(ValueError, match="holds pictures and masks.*segment_folder") as told:
        opened(tmp_path)
    for kind in ("images", "masks"):
        assert f"{tmp_path / kind / '0.png'} lies among {kind}" in str(told.value)
    for name in ("front", "front_label"):
        photo(1, tmp_path / "own" / "shoe" / f"{name}.png")
    with pytest.raises(ValueError, match=r"front_label.png has the name of a mask of front.png\)"):
        opened(tmp_path / "own")


def test_an_unreadable_picture_is_named_and_nothing_is_left(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    (folder / "class 5" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="class 5/broken.png cannot be read as a picture"):
        opened(folder)
    assert not [f for f in (tmp_path / "cache").rglob("*") if f.is_file() and f.suffix != ".lock"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "file"}, 'split_by="class" or "example".*not \'file\' and 3'),
        ({"channels": 4}, "not 'class' and 4"),
        ({"test_share": 0.8}, "leave a part to train with"),
        ({"test_share": -0.1}, "at least 0"),
    ],
)
def test_bad_options_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        opened(folder, **options)


def test_what_cannot_be_split_is_refused_with_the_way_out(tmp_path):
    add(tmp_path / "two", "a")
    add(tmp_path / "two", "b")
    with pytest.raises(ValueError, match="2 classes or pictures cannot fill .*_share to 0"):
        opened(tmp_path / "two")
    assert len(opened(tmp_path / "two", split_by="example", test_share=0)) >= 1
    with pytest.raises(ValueError, match="empty holds no folders"):
        (tmp_path / "empty").mkdir()
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="cannot be read .*nowhere.*a folder of pictures a class"):
        opened(tmp_path / "nowhere")
