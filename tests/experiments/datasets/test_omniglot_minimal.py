import io
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from experiments.datasets.omniglot_minimal import ARCHIVES
from zoo.data import open_labelled

SPLITS = ("train", "validation", "test")
ALPHABETS = {
    "Balinese": 24,
    "Early_Aramaic": 22,
    "Greek": 24,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Sanskrit": 42,
    "Tagalog": 17,
}


def ink(seed):
    return np.random.default_rng(seed).random((105, 105)) > 0.1


def drawing(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def fill(folder, *, alphabets=(("A", "B"), ("B", "C")), more=()):
    """Two characters of two hands for each alphabet; archives share what both name."""
    folder.mkdir(exist_ok=True)
    for archive, names in zip(ARCHIVES, alphabets, strict=True):
        with zipfile.ZipFile(folder / archive, "w") as file:
            for name in names:
                for c in (1, 2):
                    for hand in (1, 2):
                        path = f"{archive[:-4]}/{name}/character{c:02d}/0{ord(name)}_{hand:02d}.png"
                        file.writestr(path, drawing(ink(ord(name) + c)))
            for path, data in more:
                file.writestr(path, data)
    return folder


def opened(folder, split="train", **options):
    chosen = {"validation_alphabets": "B", "test_alphabets": "C"} | options
    return open_labelled("omniglot_minimal", split, path=str(folder), options=chosen)


@pytest.mark.slow
def test_the_real_set_has_each_drawing_once(shared_data):
    path = str(shared_data / "omniglot")
    sources = [open_labelled("omniglot_minimal", split, path=path) for split in SPLITS]
    assert [len(s) for s in sources] == [3400, 440, 1000]
    labels, groups, drawers = (
        np.concatenate([getattr(s, kind) for s in sources])
        for kind in ("labels", "groups", "drawers")
    )
    assert len(labels) == 4840
    assert np.bincount(labels).tolist() == [20] * 242
    assert np.bincount(groups).tolist() == [20 * n for n in ALPHABETS.values()]
    assert set(drawers) == set(range(1, 21)) and np.bincount(drawers)[1:].tolist() == [242] * 20
    pairs = set(zip(labels.tolist(), drawers.tolist(), strict=True))
    assert len(pairs) == 4840
    info = sources[0].info
    assert (info.num_classes, info.channels) == (242, 1)
    for source, alphabets in zip(sources[1:], ("Early_Aramaic", "Balinese Latin"), strict=True):
        assert {list(ALPHABETS)[g] for g in source.groups} == set(alphabets.split())
    # Class names, groups and names tell the same, and every drawing is its archive's.
    archives = [zipfile.ZipFile(shared_data / "omniglot" / archive) for archive in ARCHIVES]
    for source in sources:
        for i in range(0, len(source), 37):
            alphabet, character, _ = source[i]["name"].split("/")
            assert info.class_names[source.labels[i]] == f"{alphabet}/{character}"
            assert list(ALPHABETS)[source.groups[i]] == alphabet
            held = [
                file.read(f"{file.filename.split('/')[-1][:-4]}/{source[i]['name']}.png")
                for file in archives
                if f"{file.filename.split('/')[-1][:-4]}/{source[i]['name']}.png" in file.namelist()
            ]
            assert len(held) == (2 if alphabet in ("Greek", "Latin") else 1)
            for data in held:
                want = np.asarray(Image.open(io.BytesIO(data))) * np.uint8(255)
                np.testing.assert_array_equal(source[i]["image"][..., 0], want)
    pixels = np.stack([e["image"] for e in sources[0]])
    assert set(np.unique(pixels)) == {0, 255}
    assert pixels.mean() / 255 == pytest.approx(info.mean[0], abs=5e-4)
    assert pixels.std() / 255 == pytest.approx(info.std[0], abs=5e-4)
    for archive in archives:
        archive.close()


def test_drawings_are_shrunk_by_area(tmp_path):
    folder = fill(tmp_path / "o")
    whole, small = opened(folder), opened(folder, size=28)
    assert small[0]["image"].shape == (28, 28, 1) and whole[0]["image"].shape == (105, 105, 1)
    np.testing.assert_array_equal(whole[0]["image"][..., 0], ink(ord("A") + 1) * 255)
    by_peer = cv2.resize(whole[0]["image"], (28, 28), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(small[0]["image"][..., 0], by_peer)
    # 105 = 5 x 21: there an area's mean is a block's.
    blocks = whole[0]["image"].reshape(21, 5, 21, 5).mean((1, 3))
    got = opened(folder, size=21)[0]["image"][..., 0]
    np.testing.assert_allclose(got, blocks, atol=0.51)


def test_an_alphabet_is_in_one_split_and_what_both_archives_hold_is_taken_once(tmp_path):
    folder = fill(tmp_path / "o")
    sources = {split: opened(folder, split) for split in SPLITS}
    for index, (split, name) in enumerate(zip(SPLITS, "ABC", strict=True)):
        source = sources[split]
        assert source.groups.tolist() == [index] * 4
        assert source.labels.tolist() == [2 * index] * 2 + [2 * index + 1] * 2
        assert source.drawers.tolist() == [1, 2, 1, 2]
        assert source[0]["name"] == f"{name}/character01/0{ord(name)}_01"
    both = opened(folder, "train", validation_alphabets="", test_alphabets=" C ")
    assert both.splits == ("train", "test") and set(both.groups) == {0, 1}
    assert not [f for f in folder.rglob("*") if f.name not in ARCHIVES]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_alphabets": "D"}, "test_alphabets names 'D'; there are A, B, C"),
        ({"test_alphabets": "B"}, "test_alphabets names 'B', which is chosen already"),
        ({"test_alphabets": "A,C"}, "leave nothing to train with"),
        ({"size": 0}, "1 to 105 px, not 0"),
        ({"size": 106}, "1 to 105 px, not 106"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        opened(fill(tmp_path / "o"), **options)


def test_a_misspelt_alphabet_is_named_with_the_nearest(shared_data):
    with pytest.raises(ValueError, match=r"names 'Latn' \(nearest: Latin\); there are Balinese, "):
        opened(shared_data / "omniglot", validation_alphabets="", test_alphabets="Latn")


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "a\\..\\x.png", "\\x.png", "C:/x.png"]
)
def test_a_name_that_leads_out_is_refused_before_anything_is_written(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    folder = fill(tmp_path / "o", more=[(name, b"")])
    with pytest.raises(ValueError, match=r"small1.zip holds .*, a name that leads out of it"):
        opened(folder)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, -10])
def test_a_truncated_archive_is_refused_before_anything_is_written(tmp_path, monkeypatch, keep):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    file = fill(tmp_path / "o") / ARCHIVES[1]
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data)) if keep == 0.5 else keep])
    with pytest.raises(ValueError, match=r"small2.zip cannot be read .*it may be cut short"):
        opened(file.parent)
    assert not (tmp_path / "cache").exists()


def test_a_damaged_drawing_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    folder = fill(tmp_path / "o", more=[("small/A/character03/0001_01.png", b"no picture")])
    with pytest.raises(ValueError, match="A/character03/0001_01.png of .*small1.zip cannot be"):
        opened(folder)
    file = fill(folder) / ARCHIVES[0]
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 255
    file.write_bytes(data)
    with pytest.raises(ValueError, match="A/character01/065_01.png of .*Bad CRC-32"):
        opened(folder)
    assert not [f for f in (tmp_path / "cache").rglob("*") if f.is_file() and f.suffix != ".lock"]


def test_missing_archives_are_refused(tmp_path):
    with pytest.raises(ValueError, match="omniglot_minimal is read from a folder: give the one"):
        open_labelled("omniglot_minimal", "train")
    (fill(tmp_path / "o") / ARCHIVES[1]).unlink()
    with pytest.raises(ValueError, match="cannot be read .*small2.zip.*give the one with images_b"):
        opened(tmp_path / "o")
    with pytest.raises(ValueError, match="names 'B'; there are none"):
        opened(fill(tmp_path / "e", alphabets=((), ())))
