import concurrent.futures
import io
import pickle
import socket
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments.datasets import DigitScenes
from zoo.data import Info, builders, open_source

SMALL = {"train_scenes": 12, "validation_scenes": 2, "test_scenes": 3}


def file_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def picture(index, mode="RGB"):
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, (5 + index, 7, {"RGB": 3, "RGBA": 4}[mode]), np.uint8)


class PetsAlike(tfds.core.GeneratorBasedBuilder):
    """Classes count from 1 as in Oxford Pets; one picture has alpha; 255 is void."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
            "file_name": tfds.features.Text(),
            "depth": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for i in range(count):
            pixels = picture(i, "RGBA" if i == 1 else "RGB")
            mask = (pixels[..., 0] % 3 + 1).astype(np.uint8)
            mask[0, 0] = 255
            yield (
                i,
                {
                    "image": file_of(pixels),
                    "segmentation_mask": file_of(mask),
                    "file_name": f"pet{i}",
                    "depth": np.zeros(2, np.float32),
                },
            )


class Unready(PetsAlike):
    """A data set whose preparing fails as `step` does."""

    url_infos = None
    step = None

    def _generate_examples(self, count):
        yield from type(self).step()


@pytest.fixture
def pets(tmp_path):
    def open_pets(split="train", name="pets_alike", **more):
        given = {"label": "segmentation_mask", "label_offset": -1, "num_classes": 3} | more
        return open_source(name, split, path=str(tmp_path), **given)

    return open_pets


def digits(split="train", **more):
    return open_source(DigitScenes.name, split, options=SMALL, **more)


def test_any_tfds_name_opens_with_its_own_feature_names_and_offset(pets):
    source = pets()
    assert (len(source), source.splits) == (4, ("train", "test"))
    assert source.info == Info(
        "pets_alike", 3, ("0", "1", "2"), source.info.colours, 255, 3, (0.5,) * 3, (0.25,) * 3
    )
    assert len(set(source.info.colours)) == 3
    for i, example in enumerate(source):
        pixels = picture(i, "RGBA" if i == 1 else "RGB")
        want = pixels[..., 0].astype(int) % 3
        want[0, 0] = 255
        np.testing.assert_array_equal(example["image"], pixels[..., :3])
        np.testing.assert_array_equal(example["label"], want)
        assert example["name"] == f"pet{i}"
        assert example["image"].dtype == example["label"].dtype == np.uint8
    assert len(pets("test")) == 2 and len(pets("train[:3]")) == 3
    both = [example["name"] for example in pets("test + train[:3]")]
    assert both == [example["name"] for s in ("test", "train[:3]") for example in pets(s)]


def test_tensorflow_is_not_imported(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no TensorFlow here')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import experiments.datasets\n"
        "from zoo.data import open_source\n"
        f"print(open_source('digit_scenes', 'test', options={SMALL})[0]['name'])\n"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "test_00000\nFalse\n", done.stderr


def test_tfds_finds_our_builders_by_name():
    source = tfds.data_source("digit_scenes", split="test", builder_kwargs=SMALL)
    np.testing.assert_array_equal(source[1]["image"], digits("test")[1]["image"])
    builder = tfds.builder("digit_scenes", **SMALL)
    assert builder.info.metadata["class_names"] == ["background", *"0123456789"]
    again = pickle.loads(pickle.dumps(builder))
    assert again.data_dir == builder.data_dir


def test_examples_are_decoded_once_and_cannot_be_changed():
    source = digits()
    assert source[3] is source[3] and source[-1] is source[11]
    for name in ("image", "label"):
        with pytest.raises(ValueError, match="read-only"):
            source[0][name][:] = 0
    with pytest.raises(IndexError):
        source[12]


def test_what_does_not_fit_the_memory_is_decoded_again():
    nothing, all_of_it = digits(cache_mib=0), digits()
    assert nothing[3] is not nothing[3]
    np.testing.assert_array_equal(nothing[3]["image"], all_of_it[3]["image"])
    # 96x96 pixels of 4 bytes: 28 of 40 scenes fill one MiB.
    options = {"train_scenes": 40, "validation_scenes": 1, "test_scenes": 1, "size": 96}
    some = open_source(DigitScenes.name, "train", options=options, cache_mib=1)
    assert sum(a is b for a, b in zip(list(some), list(some), strict=True)) == 28


def test_a_source_is_pickled_without_what_it_keeps_and_read_by_threads_at_once():
    source = digits()
    want = [example["image"].sum() for example in source]
    assert len(pickle.dumps(source)) < source[0]["image"].nbytes * 2
    again = pickle.loads(pickle.dumps(source))
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda i: again[i % 12]["image"].sum(), range(96)))
    assert got == want * 8


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"label_offset": -2},
            r"pet0 of pets_alike train has the ids \[-1\] after label_offset=-2",
        ),
        ({"label_offset": 0}, r"ids \[3\], which are neither one of the 3 classes \(0\.\.2\) nor"),
        ({"num_classes": 2}, r"ids \[2\] after label_offset=-1"),
        ({"label_offset": 253}, r"ids \[254, 255, 256\]"),
        ({"label": "depth"}, r"'depth' holds float32 \(2,\); a label must be integers"),
        ({"image": "depth"}, r"'depth' holds float32 \(2,\); an image must be uint8"),
    ],
)
def test_a_faulty_example_is_refused_by_name(pets, more, message):
    with pytest.raises(ValueError, match=message):
        pets(**more)[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"label": "segmentation_maks"}, r"no feature 'segmentation_maks' \(nearest: segment"),
        ({"num_classes": None}, "does not tell its number of classes: give data.num_classes"),
        # In a mask of 8 bits they would wrap, and class 255 be void.
        ({"num_classes": 256}, "pets_alike has 256 classes and void 255: masks hold 255, and"),
        ({"options": {"sise": 3}}, "cannot be opened .*unexpected keyword argument 'sise'"),
        ({"name": "pets_alik"}, r"no data set 'pets_alik' \(nearest: pets_alike"),
        ({"name": "pets_alike/big"}, "pets_alike has no configuration 'big'; it has none"),
        ({"name": "pets alike"}, "no data set 'pets alike'"),
        ({"split": "tran"}, r"no split 'tran' \(nearest: train\); it has train, test"),
        ({"split": "train+tset"}, r"no split 'tset' \(nearest: test\); it has train, test"),
        ({"split": "train[:3x]"}, r"split 'train\[:3x\]' of pets_alike cannot be read"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(pets, more, message):
    with pytest.raises(ValueError, match=message):
        pets(**more)


def test_classes_that_contradict_the_data_set_are_refused():
    with pytest.raises(ValueError, match="digit_scenes has 11 classes, not num_classes=3"):
        digits(num_classes=3)


def test_a_copy_in_another_format_names_the_way_out(pets, tmp_path):
    pets()
    (file,) = tmp_path.rglob("dataset_info.json")
    file.write_text(file.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="TFRECORD.*; another data.path prepares it anew"):
        pets()


def test_a_builder_that_needs_tensorflow_names_the_extra_before_it_downloads(pets, monkeypatch):
    def needs_tf(self, count):
        raise AssertionError(f"began to prepare with {tf}")  # noqa: F821

    monkeypatch.setattr(Unready, "_generate_examples", needs_tf)
    monkeypatch.setattr(Unready, "url_infos", {"x": types.SimpleNamespace(size=811092049)})
    monkeypatch.setattr(builders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'774 MiB\); .*install "vision-zoo\[tensorflow\]"'):
        pets(name="unready")


def test_an_import_that_fails_while_preparing_names_the_extra(pets, monkeypatch):
    def step():
        raise ImportError("No module named 'tensorflow'")

    monkeypatch.setattr(Unready, "step", step)
    with pytest.raises(ValueError, match=r'tensorflow.*pip install "vision-zoo\[tensorflow\]"'):
        pets(name="unready")


def test_a_data_set_that_must_be_downloaded_says_how_much_and_from_where(pets, monkeypatch):
    def unknown(host, port):
        raise socket.gaierror("Name or service not known")

    urls = {"https://pets.example/a.tar": types.SimpleNamespace(size=3 * 2**30)}
    monkeypatch.setattr(Unready, "url_infos", urls)
    monkeypatch.setattr(builders.socket, "getaddrinfo", unknown)
    monkeypatch.setattr(builders.urllib.request, "getproxies", dict)
    with pytest.raises(ValueError, match=r"3,072 MiB\): pets.example cannot be reached"):
        pets(name="unready")


def test_any_other_failure_of_a_foreign_builder_is_told(pets, monkeypatch):
    def step():
        raise AssertionError("Manual directory does not exist")

    monkeypatch.setattr(Unready, "step", step)
    with pytest.raises(ValueError, match="unready cannot be prepared: AssertionError: Manual dir"):
        pets(name="unready")
