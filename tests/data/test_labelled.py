import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.datasets import Digits8x8, DigitScenes
from experiments.datasets._builders import png
from zoo.data import open_labelled, open_source


def picture(index):
    return np.random.default_rng(index).integers(0, 256, (28, 28, 1), np.uint8)


class Tagged(tfds.core.GeneratorBasedBuilder):
    """Labels of int64 that need not be 0..n-1, a group that is a word, and other features."""

    VERSION = tfds.core.Version("1.0.0")
    LABELS = (-(2**31), 7, 2**31 - 1)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.Scalar(np.int64),
            "weight": tfds.features.Scalar(np.float32),
            "pair": tfds.features.Tensor(shape=(2,), dtype=np.int64),
            "group": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, label in enumerate(type(self).LABELS):
            more = {"weight": 0.5, "pair": [1, 2], "group": "word"}
            yield i, {"image": png(picture(i)), "label": label, **more}


@pytest.fixture
def tagged(tmp_path):
    def open_tagged(**more):
        return open_labelled("tagged", "train", path=str(tmp_path), **{"num_classes": 3} | more)

    return open_tagged


def stock(monkeypatch, cls, examples):
    """Lets a builder of TFDS's own prepare without its downloads."""
    monkeypatch.setattr(
        cls, "_split_generators", lambda self, dl_manager: {"test": self._generate_examples()}
    )
    monkeypatch.setattr(cls, "_generate_examples", lambda self: iter(examples))
    monkeypatch.setattr(cls, "url_infos", None)


def test_stock_mnist_opens_by_name(tmp_path, monkeypatch):
    labels = [3, 0, 9, 3]
    examples = [(i, {"image": png(picture(i)), "label": k}) for i, k in enumerate(labels)]
    stock(monkeypatch, tfds.builder_cls("mnist"), examples)
    opened = open_labelled("mnist", "test", path=str(tmp_path))
    assert (opened.info.num_classes, opened.info.channels, opened.info.colours) == (10, 1, ())
    assert opened.info.class_names == tuple("0123456789")
    got = {(int(e["label"]), e["image"].tobytes()) for e in opened}
    assert got == {(k, picture(i).tobytes()) for i, k in enumerate(labels)}
    assert opened.labels.tolist() == [int(e["label"]) for e in opened]
    assert sorted(opened.labels) == sorted(labels)
    assert opened.groups is None and opened.drawers is None
    assert opened[1]["name"] == "mnist test[1]"


def test_stock_omniglot_opens_by_name(tmp_path, monkeypatch):
    cls = tfds.builder_cls("omniglot")
    image = np.repeat(np.pad(picture(0), ((0, 77), (0, 77), (0, 0))), 3, -1)
    example = {"image": png(image), "label": 1622, "alphabet": 3, "alphabet_char_id": 5}
    stock(monkeypatch, cls, [("a", example)])
    opened = open_labelled("omniglot", "test", path=str(tmp_path))
    assert opened.labels.tolist() == [1622] and opened.info.num_classes == 1623
    np.testing.assert_array_equal(opened[0]["image"], image)


def test_an_example_is_decoded_once_and_cannot_be_changed():
    opened = open_labelled(Digits8x8.name, "test")
    example = opened[3]
    assert opened[3] is example and opened[3 - len(opened)] is example
    assert type(example["label"]) is np.int32 and opened.labels.dtype == np.int32
    for array in (example["image"], opened.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    with pytest.raises(IndexError):
        opened[len(opened)]
    again = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(again.labels, opened.labels)
    np.testing.assert_array_equal(again[3]["image"], example["image"])
    uncached = open_labelled(Digits8x8.name, "test", cache_mib=0)
    assert uncached[3] is not uncached[3]


def test_no_picture_is_decoded_for_the_labels(monkeypatch):
    def decode(self, example):
        raise AssertionError("decoded")

    open_labelled(Digits8x8.name, "test")
    monkeypatch.setattr(tfds.features.Image, "decode_example_np", decode)
    opened = open_labelled(Digits8x8.name, "test")
    assert len(opened.labels) == len(opened)
    with pytest.raises(AssertionError, match="decoded"):
        opened[0]


def test_neither_tensorflow_nor_jax_is_imported(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no TensorFlow here')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import experiments.datasets\n"
        "from zoo.data import open_labelled\n"
        "print(len(open_labelled('digits8x8', 'test')), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), done.stderr


def test_labels_reach_to_the_limits_of_int32(tagged):
    opened = tagged()
    assert opened.labels.tolist() == [-(2**31), 7, 2**31 - 1]
    assert [int(e["label"]) for e in opened] == opened.labels.tolist()
    assert opened.groups is None  # A word is no group.


@pytest.mark.parametrize("label", [2**31, -(2**31) - 1])
def test_a_label_outside_int32_is_refused(tagged, monkeypatch, label):
    monkeypatch.setattr(Tagged, "LABELS", (1, label))
    with pytest.raises(ValueError, match=f"tagged train holds the label {label}, outside int32"):
        tagged()


@pytest.mark.parametrize("label", ["weight", "pair", "group", "image"])
def test_a_label_that_is_not_one_integer_is_refused(tagged, label):
    with pytest.raises(ValueError, match=f"'{label}' of tagged is .*one integer a picture"):
        tagged(label=label)


def test_what_does_not_exist_is_refused(tagged):
    with pytest.raises(ValueError, match=r"no feature 'lable' \(nearest: label\)"):
        tagged(label="lable")
    with pytest.raises(ValueError, match="does not tell its number of classes"):
        tagged(num_classes=None)
    with pytest.raises(ValueError, match=r"no split 'tset' \(nearest: test\)"):
        open_labelled(Digits8x8.name, "tset")
    with pytest.raises(ValueError, match=r"no data set 'digits8x' \(nearest: digits8x8 or"):
        open_labelled("digits8x", "test")
    with pytest.raises(ValueError, match=r"'label' of digit_scenes is Image.*a task for masks"):
        open_labelled(DigitScenes.name, "train")


def test_a_labelled_set_is_no_segmentation_set():
    with pytest.raises(ValueError, match=r"holds int64 \(\); a label must be integers \[h, w\]"):
        open_source(Digits8x8.name, "test")[0]
