import gzip
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.datasets import MnistIdx
from zoo.data import open_labelled

LABELS = np.array([3, 1, 4, 1, 5], np.uint8)
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 4, 6), np.uint8)


def idx(array):
    return struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def fill(folder, images, labels, pictures=PICTURES, classes=LABELS):
    folder.mkdir(exist_ok=True)
    for name, array in ((images, pictures), (labels, classes)):
        data = idx(array)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "set", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


def opened(folder, split="test"):
    return open_labelled(MnistIdx.name, split, path=str(folder))


@pytest.mark.slow
def test_the_real_digits_are_those_of_the_files(shared_data):
    folder = shared_data / "mnist"
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    want = np.frombuffer(raw[16:], np.uint8).reshape(10_000, 28, 28, 1)
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    source = opened(folder)
    np.testing.assert_array_equal(np.stack([e["image"] for e in source]), want)
    assert source.labels.tolist() == list(labels) and len(source) == 10_000
    assert source.splits == ("test",)
    # The test set's known class counts, from the digit 0 on.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(source.labels).tolist() == counts
    assert want.mean() / 255 == pytest.approx(source.info.mean[0], abs=5e-4)
    assert want.std() / 255 == pytest.approx(source.info.std[0], abs=5e-4)
    queries = opened(folder, "test[8000:]")
    assert len(queries) == 2000
    np.testing.assert_array_equal(queries[0]["image"], want[8000])
    np.testing.assert_array_equal(queries.labels, source.labels[8000:])


@pytest.mark.parametrize(
    ("images", "labels", "split"),
    [
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz", "test"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "train"),
        ("emnist-letters-test-images-idx3-ubyte", "emnist-letters-test-labels-idx1-ubyte", "test"),
    ],
)
def test_every_spelling_is_read(tmp_path, images, labels, split):
    source = opened(fill(tmp_path / "set", images, labels), split)
    assert source.splits == (split,)
    np.testing.assert_array_equal(np.stack([e["image"] for e in source])[..., 0], PICTURES)
    assert source.labels.tolist() == LABELS.tolist()
    assert source.info.class_names == tuple("012345")


def test_both_splits_share_one_space_of_classes(folder):
    fill(folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte", classes=LABELS + 8)
    for split, want in (("train", LABELS + 8), ("test", LABELS)):
        source = opened(folder, split)
        assert source.splits == ("train", "test") and source.info.num_classes == 14
        assert source.labels.tolist() == want.tolist()


def test_tfds_prepares_it_from_a_manual_folder(folder, tmp_path):
    config = tfds.download.DownloadConfig(manual_dir=folder)
    builder = tfds.builder("mnist_idx", data_dir=tmp_path / "prepared")
    builder.download_and_prepare(download_config=config)
    assert builder.info.features["label"].num_classes == 6
    assert [int(e["label"]) for e in builder.as_data_source("test")] == LABELS.tolist()


def damage(kind, images, labels):
    raw = gzip.decompress(images.read_bytes())
    if kind == "cut gzip":
        images.write_bytes(images.read_bytes()[:-20])
    elif kind == "no gzip":
        images.write_bytes(raw)
    elif kind == "flipped gzip":
        labels.write_bytes(labels.read_bytes()[:12] + b"\xff\xff" + labels.read_bytes()[14:])
    elif kind == "cut":
        images.write_bytes(gzip.compress(raw[:-1]))
    elif kind == "longer":
        images.write_bytes(gzip.compress(raw + b"\0"))
    elif kind == "magic":
        images.write_bytes(gzip.compress(b"\0\0\x0d\3" + raw[4:]))
    elif kind == "header":
        images.write_bytes(gzip.compress(raw[:9]))
    elif kind == "swapped":
        labels.write_bytes(images.read_bytes())
    elif kind == "count":
        labels.write_bytes(gzip.compress(idx(LABELS[:4])))
    elif kind == "huge":
        images.write_bytes(gzip.compress(raw[:4] + b"\xff" * 12))
    elif kind == "empty":
        labels.write_bytes(gzip.compress(idx(LABELS[:0])))
    elif kind == "alone":
        labels.unlink()
    elif kind == "double":
        labels.with_suffix("").write_bytes(idx(LABELS))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut gzip", "t10k-images-idx3-ubyte.gz cannot be read .*copy or download it again"),
        ("no gzip", "t10k-images-idx3-ubyte.gz cannot be read"),
        ("flipped gzip", "t10k-labels-idx1-ubyte.gz cannot be read"),
        ("cut", "t10k-images-idx3-ubyte.gz holds 119 bytes where 5x4x6 are promised"),
        ("longer", "holds 121 bytes where 5x4x6"),
        ("magic", "begins with 0x00000d03, not with 0x00000803 and 3 sizes"),
        ("header", "t10k-images.*not with 0x00000803 and 3 sizes"),
        ("swapped", "t10k-labels.*begins with 0x00000803, not with 0x00000801"),
        ("count", "t10k-images.* holds 5 pictures, but .*t10k-labels.* 4 labels"),
        ("huge", "holds 0 bytes where 4294967295x4294967295x4294967295 are promised"),
        ("empty", "t10k-labels.* holds 0 bytes where 0 are promised; it is empty"),
        ("alone", r"lacks the test labels; it needs train-images-idx3-ubyte\[.gz\]"),
        ("double", r"t10k-labels-idx1-ubyte and .*.gz are both \('test', 'labels'\)"),
    ],
)
def test_faulty_files_are_refused_by_name(folder, tmp_path, monkeypatch, kind, message):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    damage(kind, *(folder / f"t10k-{s}-ubyte.gz" for s in ("images-idx3", "labels-idx1")))
    with pytest.raises(ValueError, match=message):
        opened(folder)
    assert not [f for f in tmp_path.glob("cache/**/*") if f.is_file() and f.suffix != ".lock"]


def test_missing_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mnist_idx is read from a folder: give the one with"):
        open_labelled(MnistIdx.name, "test")
    with pytest.raises(ValueError, match="folder of mnist_idx cannot be read .*nowhere.*give the"):
        opened(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="lacks the train images; it needs"):
        opened(tmp_path)
