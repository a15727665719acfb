import numpy as np
import pytest

from in_memory import VOID, pictures, preprocess
from zoo.data.batches import eval_batches
from zoo.data.config import Data

SIZES = [(6, 8)] * 5 + [(8, 6)] * 2 + [(6, 8)] * 3 + [(4, 4)]


def counted(batches):
    """The (picture, label) pairs that count, sorted, and the shapes and weights of all batches."""
    pairs, shapes = [], []
    for batch in batches:
        shapes.append((batch["image"].shape, batch["label"].shape, tuple(batch["weight"])))
        for image, label, weight in zip(
            batch["image"], batch["label"], batch["weight"], strict=True
        ):
            assert weight in (0, 1)
            if weight:
                pairs.append((image.tobytes(), label.tobytes()))
            else:
                assert (image == 0).all() and (label == VOID).all()
    return pairs, shapes


@pytest.mark.parametrize("batch_size", [4, 8, 12])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_evaluation_counts_every_picture_once(batch_size, count):
    source, prepare = pictures(*SIZES), preprocess()
    pairs, lengths = [], []
    for index in range(count):
        local, shapes = counted(
            eval_batches(
                source,
                Data(name="x"),
                prepare,
                batch_size=batch_size,
                process_index=index,
                process_count=count,
            )
        )
        assert all(image[0] == batch_size // count for image, _, _ in shapes)
        pairs += local
        lengths.append([(image, label) for image, label, _ in shapes])
    want = [(prepare(e["image"]).tobytes(), e["label"].astype(np.int32).tobytes()) for e in source]
    assert sorted(pairs) == sorted(want)
    assert all(length == lengths[0] for length in lengths)


def test_evaluation_keeps_the_order_and_starts_a_batch_at_each_size():
    source = pictures(*SIZES)
    batches = list(eval_batches(source, Data(name="x"), preprocess(), batch_size=4))
    pairs, shapes = counted(batches)
    want = [e["label"].astype(np.int32).tobytes() for e in source]
    assert [label for _, label in pairs] == want
    assert [(label[1:], sum(weights)) for _, label, weights in shapes] == [
        ((6, 8), 4), ((6, 8), 1), ((8, 6), 2), ((6, 8), 3), ((4, 4), 1)
    ]  # fmt: skip
    parts = [
        eval_batches(
            source, Data(name="x"), preprocess(), batch_size=4, process_index=i, process_count=2
        )
        for i in (0, 1)
    ]
    for whole, *halves in zip(batches, *parts, strict=True):
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([h[name] for h in halves]), array)


@pytest.mark.parametrize(
    ("score_at", "labels"), [("source", [(6, 8), (8, 6)]), ("input", [(5, 5)])]
)
def test_labels_are_scored_where_the_experiment_says(score_at, labels):
    source = pictures((6, 8), (6, 8), (8, 6))
    data = Data(name="x", size=(5, 5), score_at=score_at)
    batches = list(eval_batches(source, data, preprocess((5, 5)), batch_size=4))
    assert [batch["label"].shape[1:] for batch in batches] == labels
    assert all(batch["image"].shape == (4, 5, 5, 3) for batch in batches)
    assert sum(batch["weight"].sum() for batch in batches) == 3
