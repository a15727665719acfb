import types

import numpy as np
import pytest

from zoo.data.augment import Augment
from zoo.data.batches import iterate
from zoo.data.config import Data
from zoo.data.images import Preprocess
from zoo.data.tuples import Turned, picture_batches, tuple_batches

INFO = types.SimpleNamespace(name="pictures", ignore_label=255)


class Pictures(list):
    """Pixels are 100 and 10 times the picture's place; the last may have a size of its own."""

    def __init__(self, count, *, last=(4, 6)):
        sizes = [(4, 6)] * (count - 1) + [last]
        super().__init__(
            {
                "image": np.full((*s, 1), 100 + 10 * i, np.uint8),
                "label": np.int32(i % 3),
                "name": f"p{i}",
            }
            for i, s in enumerate(sizes)
        )
        self.labels, self.info = np.array([i % 3 for i in range(count)], np.int32), INFO


def preprocess(**options):
    return Preprocess(1, (0.0,), (1 / 255,), **options)  # Pixels stay in 0..255.


def pairs(row):
    return (row % 5, (row * row + 1) % 5)


def batches(source, **options):
    where = {k: options.pop(k) for k in ("process_index", "process_count") if k in options}
    data = Data(name="x", batch_size=4, **options)
    return tuple_batches(source, pairs, data, preprocess(), seed=3, **where)


def test_a_batch_holds_the_rows_that_places_names():
    batch = batches(Pictures(5))[7]
    want = np.array([pairs(row) for row in range(28, 32)])
    assert batch["image"].shape == (4, 2, 4, 6, 1) and batch["image"].dtype == np.float32
    np.testing.assert_allclose(batch["image"][:, :, 0, 0, 0], 100 + 10 * want, rtol=1e-6)
    np.testing.assert_array_equal(batch["label"], want % 3)
    assert batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["weight"], np.ones(4))


def test_batches_depend_on_seed_and_step_alone_and_pictures_are_augmented_apart():
    augmented = batches(Pictures(5), augment=Augment(brightness=0.2), threads=2)
    for step, batch in zip(range(5, 8), iterate(augmented, 5, 2), strict=False):
        np.testing.assert_array_equal(batch["image"], augmented[step]["image"])
    image = augmented[0]["image"][:, :, 0, 0, 0]
    plain = batches(Pictures(5))[0]["image"][:, :, 0, 0, 0]
    changes = (image - plain)[plain > 0]
    assert len(np.unique(changes.round(3))) == len(changes) > 3


def test_a_window_is_cut_and_outside_lies_the_mean():
    grey, data = Preprocess(1, (0.4,), (0.25,)), Data(name="x", batch_size=4, crop=(8, 10))
    image = tuple_batches(Pictures(5), pairs, data, grey, seed=3)[0]["image"]
    assert image.shape == (4, 2, 8, 10, 1)
    assert ((np.abs(image) < 1e-5).sum((2, 3, 4)) == 8 * 10 - 4 * 6).all()


def test_two_processes_share_the_batch_of_one():
    options = {"augment": Augment(brightness=0.5)}
    whole = batches(Pictures(5), **options)[2]
    parts = [batches(Pictures(5), process_index=p, process_count=2, **options)[2] for p in range(2)]
    for key in whole:
        np.testing.assert_array_equal(whole[key][0::2], parts[0][key])
        np.testing.assert_array_equal(whole[key][1::2], parts[1][key])


def test_turned_and_mirrored_pictures_are_new_classes():
    source = Pictures(5)
    source[1]["image"] = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    turned = Turned(source)
    assert len(turned) == 40 and len(np.unique(turned.labels)) == 24
    seen = set()
    for position in range(8):
        example = turned[5 * position + 1]
        want = np.rot90(source[1]["image"], position)
        np.testing.assert_array_equal(example["image"], want[:, ::-1] if position > 3 else want)
        seen.add(example["image"].tobytes())
        assert example["label"] == turned.labels[5 * position + 1]
        same = turned.labels == example["label"]
        np.testing.assert_array_equal(np.flatnonzero(same), 5 * position + np.array([1, 4]))
    assert len(seen) == 8
    with pytest.raises(IndexError):
        turned[40]


@pytest.mark.parametrize("processes", [1, 2])
def test_every_picture_comes_once_in_order(processes):
    source, data = Pictures(7, last=(2, 2)), Data(name="x")
    parts = [
        list(picture_batches(source, data, preprocess(), batch_size=4, process_index=p,
                             process_count=processes))
        for p in range(processes)
    ]  # fmt: skip
    seen = []
    for together in zip(*parts, strict=True):
        for batch in together:
            assert len(batch["image"]) == 4 // processes
            seen += batch["image"][batch["weight"] > 0][:, 0, 0, 0].round(3).tolist()
            assert not batch["image"][batch["weight"] == 0].any()
    assert seen == [100 + 10 * i for i in range(7)]


def test_sizes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"p\d is .* \(h, w\).*data\.size"):
        list(batches(Pictures(5, last=(3, 3)))[i] for i in range(3))
    resized = tuple_batches(
        Pictures(5, last=(3, 3)),
        pairs,
        Data(name="x", batch_size=4),
        preprocess(size=(4, 4)),
        seed=0,
    )
    assert resized[1]["image"].shape == (4, 2, 4, 4, 1)


def test_a_row_far_away_reads_what_is_asked_for_alone():
    read = []

    class Watched(Pictures):
        def __getitem__(self, index):
            read.append(super().__getitem__(index)["name"])
            return super().__getitem__(index)

    data = Data(name="x", batch_size=1)
    tuple_batches(Watched(5), pairs, data, preprocess(), seed=3)[2**35]
    assert read == ["p3", "p0"]
