import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments.datasets import Camvid, camvid
from zoo.data import open_source

SIZE = (6, 8)  # h, w


def pixels(name):
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(0, 256, (*SIZE, 3), np.uint8), rng.integers(0, 12, SIZE, np.uint8)


def add(root, split, name, suffix=".png"):
    image, mask = pixels(name)
    for folder, data, end in ((split, image, suffix), (split + "annot", mask, ".png")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(data).save(root / folder / (name + end))


@pytest.fixture
def folder(tmp_path):
    """Two training videos of 20 and 13 frames and a short one; frame numbers without zeros."""
    root = tmp_path / "CamVid"
    for frame in range(1, 21):
        add(root, "train", f"0016E5_{frame * 30}")
    for frame in range(13):
        add(root, "train", f"0006R0_f{frame:05d}")
    add(root, "train", "0001TP_1")
    add(root, "val", "0016E5_7959")
    add(root, "val", "0016E5_7961", ".jpg")
    return root


def names(folder, split, **options):
    return [e["name"] for e in open_source("camvid", split, path=str(folder), options=options)]


def open_train(folder, **more):
    return open_source("camvid", "train", path=str(folder), **more)


def test_pictures_and_masks_meet_by_name_in_numeric_order(folder):
    source = open_train(folder)
    assert source.splits == ("train", "validation")
    frames = [f"0016E5_{frame * 30}" for frame in range(1, 21)]
    assert [e["name"] for e in source] == (
        ["0001TP_1"] + [f"0006R0_f{frame:05d}" for frame in range(13)] + frames
    )
    for example in source:
        image, mask = pixels(example["name"])
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"], mask)
    assert names(folder, "validation") == ["0016E5_7959", "0016E5_7961"]


def test_info_is_camvids():
    info = Camvid().info.metadata
    assert info["class_names"][0] == "Sky" and info["class_names"][10] == "Bicyclist"
    assert (info["ignore_label"], camvid.NUM_CLASSES, len(set(map(tuple, info["colours"])))) == (
        11,
        11,
        11,
    )


def test_tail_takes_the_last_frames_of_each_video_away_from_training(folder):
    # 15 % of 20, 13 and 1 frames: 3, 2 and none.
    tail = ["0006R0_f00011", "0006R0_f00012", "0016E5_540", "0016E5_570", "0016E5_600"]
    assert names(folder, "validation", validation="tail") == tail
    train = names(folder, "train", validation="tail")
    assert set(train) | set(tail) == set(names(folder, "train")) and len(train) == 34 - 5
    assert names(folder, "given_val", validation="tail") == ["0016E5_7959", "0016E5_7961"]


def test_tail_needs_no_given_validation_and_refuses_videos_too_short(folder):
    shutil.rmtree(folder / "val")
    shutil.rmtree(folder / "valannot")
    assert open_train(folder, options={"validation": "tail"}).splits == ("train", "validation")
    for file in (*folder.glob("train*/00*E5*"), *folder.glob("train*/00*R0*")):
        file.unlink()
    with pytest.raises(ValueError, match="none of them has the 4 frames"):
        open_train(folder, options={"validation": "tail"})


def test_a_test_split_is_there_where_its_folder_is(folder):
    add(folder, "test", "Seq05VD_f00000")
    assert names(folder, "test") == ["Seq05VD_f00000"]


def test_a_changed_touched_or_swapped_folder_is_read_anew(folder):
    before = open_train(folder)
    mask = np.full(SIZE, 5, np.uint8)
    path = folder / "trainannot" / "0001TP_1.png"
    Image.fromarray(mask).save(path)
    assert (open_train(folder)[0]["label"] == 5).all()
    # The very same size and name: only the time differs.
    stat = path.stat()
    Image.fromarray(np.full(SIZE, 6, np.uint8)).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert path.stat().st_size == stat.st_size
    assert (open_train(folder)[0]["label"] == 6).all()
    # Another folder, moved to the same place.
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    add(other, "train", "0001TP_0")
    folder.rename(folder.with_name("old"))
    other.rename(folder)
    assert open_train(folder)[0]["name"] == "0001TP_0"
    assert len(open_train(folder)) == len(before) + 1


def test_the_same_folder_is_prepared_once(folder, capsys):
    open_train(folder)
    assert "Preparing camvid" in capsys.readouterr().err
    open_train(folder)
    assert capsys.readouterr() == ("", "")


def test_prepared_files_are_the_same_to_the_byte(folder, tmp_path):
    files = []
    for name in ("a", "b"):
        builder = Camvid(path=folder, data_dir=tmp_path / name)
        builder.download_and_prepare()
        files.append({f.name: f.read_bytes() for f in builder.data_path.iterdir()})
    assert files[0] == files[1]


def test_tfds_takes_the_folder_as_path_or_as_manual_dir(folder):
    want = open_train(folder)[2]
    config = tfds.download.DownloadConfig(manual_dir=str(folder))
    for kwargs in (
        {"builder_kwargs": {"path": str(folder)}},
        {"download_and_prepare_kwargs": {"download_config": config}},
    ):
        source = tfds.data_source("camvid", split="train", **kwargs)
        np.testing.assert_array_equal(source[2]["image"], want["image"])
        assert source[2]["name"].decode() == want["name"]


def empty(root):
    for file in (root / "train").iterdir():
        file.unlink()


def truncated(root):
    # A picture with so much noise that half its file is far from its end.
    path = root / "train" / "0001TP_1.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(name, data):
    def fault(root):
        Image.fromarray(data).save(root / name)

    return fault


HIGH = np.full(SIZE, 3, np.uint8)
HIGH[2, :2] = (12, 200)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (shutil.rmtree, r"folder of camvid cannot be read .*CamVid/train'\): clone https"),
        (lambda r: shutil.rmtree(r / "trainannot"), r"No such file .*CamVid/trainannot'"),
        (empty, r"train holds no \.jpg or \.jpeg or \.png files"),
        (lambda r: shutil.rmtree(r / "val"), r"cannot be read .*CamVid/val'"),
        (lambda r: (r / "train/0001TP_1.png").unlink(), r"trainannot/0001TP_1.png has no image"),
        (lambda r: (r / "valannot/0016E5_7961.png").unlink(), r"val/0016E5_7961.jpg has no mask"),
        (
            lambda r: shutil.copy(r / "train/0001TP_1.png", r / "train/0001TP_1.jpg"),
            r"0001TP_1.jpg and .*0001TP_1.png share a name",
        ),
        (truncated, r"train/0001TP_1.png cannot be read"),
        (rewrite("trainannot/0001TP_1.png", pixels("x")[0]), r"trainannot/0001TP_1.png .*RGB"),
        (
            rewrite("trainannot/0001TP_1.png", np.zeros((5, 9), np.uint8)),
            r"trainannot/0001TP_1.png is 9x5 px, but its image .*0001TP_1.png is 8x6",
        ),
        (
            rewrite("trainannot/0001TP_1.png", HIGH),
            r"trainannot/0001TP_1.png holds the ids \[12, 200\]",
        ),
    ],
)
def test_a_faulty_folder_is_refused_and_nothing_is_left(
    folder, fault, message, tmp_path, monkeypatch
):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    fault(folder)
    with pytest.raises(ValueError, match=message):
        open_train(folder)
    assert not [f for f in tmp_path.glob("cache/tfds/*") if f.suffix != ".lock"]


def test_no_path_and_other_options_are_refused():
    with pytest.raises(ValueError, match="camvid is read from a folder: .*give its CamVid folder"):
        open_source("camvid", "train")
    with pytest.raises(ValueError, match='"given" or "tail", not \'tial\''):
        open_source("camvid", "train", options={"validation": "tial"})


@pytest.mark.slow
def test_the_real_folder_has_the_shares_that_its_readme_counts(shared_data):
    """data/README.md: percent of all pixels, train and val; mean and std of the originals."""
    train = [16.85, 23.26, 0.98, 31.66, 4.49, 9.72, 1.17, 1.13, 5.87, 0.64, 0.29, 3.95]
    given = [9.18, 25.96, 0.56, 28.95, 8.72, 16.34, 0.89, 3.08, 1.75, 0.65, 2.22, 1.70]
    sources = {
        split: open_source(
            "camvid", split, path=str(shared_data / "camvid"), options={"validation": "tail"}
        )
        for split in ("train", "validation", "given_val")
    }
    assert [len(s) for s in sources.values()] == [312, 55, 101]
    counts = {
        split: sum(np.bincount(e["label"].ravel(), minlength=12) for e in source)
        for split, source in sources.items()
    }
    whole = counts["train"] + counts["validation"]
    np.testing.assert_allclose(100 * whole / whole.sum(), train, atol=0.0051)
    shares = 100 * counts["given_val"] / counts["given_val"].sum()
    np.testing.assert_allclose(shares, given, atol=0.0051)
    images = [e["image"] for split in ("train", "validation") for e in sources[split]]
    for c in range(3):
        levels = sum(np.bincount(image[..., c].ravel(), minlength=256) for image in images)
        mean = np.average(np.arange(256), weights=levels)
        std = np.average((np.arange(256) - mean) ** 2, weights=levels) ** 0.5
        assert mean / 255 == pytest.approx(Camvid.MEAN[c], abs=1e-3)
        assert std / 255 == pytest.approx(Camvid.STD[c], abs=1e-3)
