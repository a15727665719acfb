import itertools
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from in_memory import VOID, Pictures, pictures, preprocess
from zoo.data.augment import Augment
from zoo.data.batches import eval_batches, iterate, resize_label, train_batches
from zoo.data.border_weights import border_weights
from zoo.data.config import Data

EVERYTHING = Augment(flip=True, turns=True, scale=(0.7, 1.4), elastic_sigma=1.0, brightness=0.2)


def bytes_of(batch):
    return {name: array.tobytes() for name, array in batch.items()}


def train(source, data, *, seed=0, index=0, count=1):
    size = preprocess(data.size)
    return train_batches(source, data, size, seed=seed, process_index=index, process_count=count)


def test_train_batch_has_the_shapes_of_design():
    data = Data(name="x", batch_size=3, size=(8, 10), crop=(6, 12))
    batch = train(pictures(*[(16, 20)] * 5), data)[0]
    assert batch["image"].shape == (3, 6, 12, 3) and batch["image"].dtype == np.float32
    assert batch["label"].shape == (3, 6, 12) and batch["label"].dtype == np.int32
    assert batch["weight"].tolist() == [1, 1, 1] and batch["weight"].dtype == np.float32
    assert set(batch) == {"image", "label", "weight"}
    # The window is wider than the picture: 6 x 2 pixels of each lie outside.
    outside = batch["label"] == VOID
    assert (np.abs(batch["image"]).max(-1) < 1e-5)[outside].sum() >= 3 * 12


def test_border_weights_are_those_of_the_changed_label():
    source = pictures(*[(24, 20)] * 3)
    options = {"batch_size": 2, "crop": (16, 18), "augment": EVERYTHING, "border_class": 4}
    plain = train(source, Data(name="x", **options))[1]
    batch = train(source, Data(name="x", border_weight=7.0, **options))[1]
    want = [border_weights(label, VOID, cell=4, weight=7.0) for label in batch["label"]]
    np.testing.assert_array_equal(batch.pop("border"), want)
    assert np.max(want) > 1 and batch.keys() == plain.keys()
    for name, array in plain.items():  # Nothing else has changed.
        np.testing.assert_array_equal(batch[name], array)
    data = Data(name="x", border_weight=7.0)
    (evaluated,) = eval_batches(source, data, preprocess(), batch_size=3)
    assert "border" not in evaluated


@pytest.mark.parametrize("size", [None, (10, 7)])
def test_without_augmentation_training_sees_what_evaluation_sees(size):
    source = pictures(*[(16, 20)] * 5)
    data = Data(name="x", batch_size=5, size=size, score_at="input")
    trained = train(source, data)[0]
    (evaluated,) = eval_batches(source, data, preprocess(size), batch_size=5)
    order = [
        next(i for i in range(5) if np.array_equal(evaluated["label"][i], label))
        for label in trained["label"]
    ]
    assert sorted(order) == list(range(5))
    np.testing.assert_allclose(trained["image"], evaluated["image"][order], atol=1e-5)


def test_an_epoch_holds_every_picture_and_the_next_another_order():
    source = pictures(*[(4, 4)] * 10)
    batches = train(source, Data(name="x", batch_size=5))
    orders = []
    for epoch in range(3):
        labels = np.concatenate([batches[2 * epoch + half]["label"] for half in (0, 1)])
        orders.append(tuple(labels[:, 0, 0].tolist()))
        assert sorted(orders[-1]) == list(range(10))
    assert len(set(orders)) == 3


def test_augmentation_differs_from_epoch_to_epoch():
    batches = train(pictures((16, 16)), Data(name="x", batch_size=1, augment=EVERYTHING))
    assert len({batches[n]["image"].tobytes() for n in range(8)}) == 8


def test_item_depends_on_seed_and_number_alone():
    source, data = pictures(*[(16, 16)] * 7), Data(name="x", batch_size=4, augment=EVERYTHING)
    batches = train(source, data, seed=3)
    forward = [bytes_of(batches[n]) for n in range(6)]
    again = train(pickle.loads(pickle.dumps(source)), data, seed=3)
    assert [bytes_of(again[n]) for n in reversed(range(6))] == forward[::-1]
    assert bytes_of(train(source, data, seed=4)[0]) != forward[0]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_the_batch_of_one(count):
    source, data = pictures(*[(16, 16)] * 7), Data(name="x", batch_size=8, augment=EVERYTHING)
    whole = train(source, data)
    parts = [train(source, data, index=index, count=count) for index in range(count)]
    for n in (0, 1, 5, 1000):
        for name, array in whole[n].items():
            for index, part in enumerate(parts):
                np.testing.assert_array_equal(part[n][name], array[index::count])


def test_source_may_be_smaller_than_a_batch():
    batch = train(pictures(*[(4, 4)] * 3), Data(name="x", batch_size=8))[0]
    assert np.bincount(batch["label"][:, 0, 0]).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


@pytest.mark.parametrize("function", ["train", "eval"])
@pytest.mark.parametrize(
    ("size", "count", "nearest"), [(10, 4, "8 or 12"), (3, 4, "4"), (5, 2, "4 or 6")]
)
def test_refuses_a_batch_that_does_not_divide(function, size, count, nearest):
    source, data = pictures((4, 4)), Data(name="x", batch_size=size)
    with pytest.raises(ValueError, match=rf"batch of {size} .* {count} processes.* is {nearest} "):
        if function == "train":
            train(source, data, count=count)
        else:
            eval_batches(source, data, preprocess(), batch_size=size, process_count=count)


def test_refuses_pictures_of_two_sizes_unless_cut_or_resized():
    source = pictures((4, 4), (6, 4))
    with pytest.raises(ValueError, match=r"picture \d is .*set data\.crop .*or data\.size"):
        train(source, Data(name="x", batch_size=2))[0]
    assert train(source, Data(name="x", batch_size=2, crop=(5, 5)))[0]["label"].shape == (2, 5, 5)
    assert train(source, Data(name="x", batch_size=2, size=(5, 5)))[0]["label"].shape == (2, 5, 5)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_refuses_a_seed_that_grain_cannot_hold(seed):
    with pytest.raises(ValueError, match=rf"seed must lie in 0\.\.4294967295; got {seed}"):
        train(pictures((4, 4)), Data(name="x"), seed=seed)


def test_refuses_an_empty_source():
    with pytest.raises(ValueError, match="pictures has no example to train on"):
        train(pictures(), Data(name="x"))


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("start", [0, 1, 7])
def test_iterate_goes_on_from_any_step(start, threads):
    source, data = pictures(*[(16, 16)] * 7), Data(name="x", batch_size=4, augment=EVERYTHING)
    batches = train(source, data)
    got = itertools.islice(iterate(batches, start, threads), 5)
    want = [bytes_of(batches[start + n]) for n in range(5)]
    assert [bytes_of(batch) for batch in got] == want


def test_batches_of_one_can_be_iterated():
    """Of an endless data set there are more of them than Grain can count."""
    for count in (1, 7):
        batches = train(pictures(*[(4, 4)] * count), Data(name="x", batch_size=1))
        got = itertools.islice(iterate(batches, 5, 0), 3)
        want = [bytes_of(batches[n]) for n in (5, 6, 7)]
        assert [bytes_of(batch) for batch in got] == want


def prefetchers():
    return [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]


def wait_until_none():
    deadline = time.monotonic() + 20
    while prefetchers() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not prefetchers()


def test_threads_end_with_their_iterator():
    assert wait_until_none()
    source, data = pictures(*[(16, 16)] * 7), Data(name="x", batch_size=4, threads=3)
    trained = iterate(train(source, data), 0, 3)
    evaluated = eval_batches(source, data, preprocess(), batch_size=2)
    next(trained), next(evaluated)
    assert prefetchers()
    del trained, evaluated
    assert wait_until_none()


@pytest.mark.slow
def test_a_program_ends_with_an_iterator_open():
    """It does not hang, and Grain does without absl's flags, which nobody has parsed."""
    program = """
import types
import numpy as np
from zoo.data.batches import iterate, train_batches
from zoo.data.config import Data
from zoo.data.images import Preprocess

class Pictures(list):
    info = types.SimpleNamespace(name="x", ignore_label=255)

example = {"image": np.zeros((4, 4, 1), np.uint8), "label": np.zeros((4, 4), np.uint8), "name": ""}
batches = train_batches(
    Pictures([example]), Data(name="x"), Preprocess(1, (0.5,), (0.5,)), seed=0
)
kept = iterate(batches, 0, 2)
print(next(kept)["image"].shape)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "(8, 4, 4, 1)\n"), done.stderr


def test_an_unreadable_picture_is_an_error_in_the_reading_thread_too():
    class Broken(Pictures):
        def __getitem__(self, index):
            raise ValueError("b.png is damaged")

    source = Broken(pictures(*[(4, 4)] * 3))
    with pytest.raises(ValueError, match=r"b\.png is damaged"):
        next(iterate(train(source, Data(name="x")), 0, 2))
    with pytest.raises(ValueError, match=r"b\.png is damaged"):
        next(eval_batches(source, Data(name="x"), preprocess(), batch_size=2))


@pytest.mark.parametrize("size", [(144, 192), (97, 131), (500, 700)])
def test_resized_label_is_pillows_nearest(size):
    label = np.random.default_rng(0).integers(0, 12, (360, 480), np.uint8)
    want = Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST)
    # Half-way between two pixels' centres Pillow's choice hangs on its rounding, ours does not.
    places = [(2 * np.arange(n) + 1) * m / (2 * n) for n, m in zip(size, label.shape, strict=True)]
    clear = np.ix_(*(np.abs(place - np.round(place)) > 1e-6 for place in places))
    got = resize_label(label, size)
    np.testing.assert_array_equal(got[clear], np.asarray(want)[clear])
    for axis, place in enumerate(places):  # The border of pixels n - 1 and n goes to n.
        border = np.flatnonzero(place == np.round(place))
        line = np.arange(label.shape[axis]) % 251
        ramp = np.broadcast_to(line[:, None] if axis == 0 else line, label.shape).astype(np.uint8)
        seen = np.moveaxis(resize_label(ramp, size), axis, 0)[border, 0]
        np.testing.assert_array_equal(seen, place[border] % 251)
