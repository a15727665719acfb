import concurrent.futures

import numpy as np
import pytest

from zoo.data.balanced import class_balanced_batches

SIZES = {-5: 4, 2**31 - 1: 9, 0: 3, 17: 6, -(2**31): 1, 3: 12, 8: 5}
LABELS = np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))

SHORT = ("repeat", "left_out")


def plan_of(labels=LABELS, p=3, k=3, seed=0, **options):
    return class_balanced_batches(
        labels, classes_per_batch=p, examples_per_class=k, seed=seed, **options
    )


@pytest.mark.parametrize(
    ("p", "short"), [*((p, short) for p in (2, 3, 5) for short in SHORT), (7, "repeat")]
)
def test_every_class_once_an_epoch_before_any_twice(p, short):
    usable = [c for c, size in SIZES.items() if short == "repeat" or size >= 3]
    plan = plan_of(p=p, short=short)
    assert plan.batches_per_epoch == int(np.ceil(len(usable) / p))
    orders = set()
    for epoch in range(5):
        seen = []
        for place in range(plan.batches_per_epoch):
            batch = plan[epoch * plan.batches_per_epoch + place]
            assert batch.dtype == np.int64 and batch.shape == (p * 3,)
            groups = LABELS[batch].reshape(p, 3)
            assert (groups == groups[:, :1]).all()
            assert len(set(groups[:, 0])) == p
            seen += groups[:, 0].tolist()
            for group in batch.reshape(p, 3):
                assert len(set(group)) == min(3, SIZES[LABELS[group[0]]])
        assert sorted(seen[: len(usable)]) == sorted(usable)
        orders.add(tuple(seen))
    assert len(orders) == 5


def test_images_of_a_class_all_come_before_any_again():
    plan = plan_of(p=7, k=3)  # One batch an epoch, nothing to fill up.
    dealt = {c: [] for c in SIZES}
    for n in range(12):
        for group in plan[n].reshape(7, 3):
            dealt[LABELS[group[0]]] += group.tolist()
    for c, size in SIZES.items():
        images = sorted(np.flatnonzero(LABELS == c))
        if size >= 3:
            assert sorted(dealt[c][:size]) == images
    # 36 images of each: 3, 9, 6 and 12 divide evenly.
    for c in (2**31 - 1, 0, 17, 3):
        counts = np.bincount(dealt[c])
        assert set(counts[counts > 0]) == {36 // SIZES[c]}


def test_short_classes_repeat_evenly():
    plan = plan_of(np.array([1, 1, 2, 2, 2]), p=2, k=7)
    for n in range(10):
        counts = np.bincount(plan[n], minlength=5)
        assert sorted(counts[:2]) == [3, 4] and sorted(counts[2:]) == [2, 2, 3]


def test_depends_on_seed_and_number_alone():
    sequential = np.array([plan_of()[n] for n in range(60)])
    plan, order = plan_of(), np.random.default_rng(1).permutation(60)
    np.testing.assert_array_equal([plan[n] for n in order], sequential[order])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(plan_of().__getitem__, order))
    np.testing.assert_array_equal(got, sequential[order])
    assert not np.array_equal(plan_of(seed=1)[0], sequential[0])
    assert plan[10**12].shape == (9,)
    np.testing.assert_array_equal(plan[np.int64(5)], sequential[5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 1}, "examples_per_class=1 leaves images without positives"),
        ({"p": 1}, "classes_per_batch=1 leaves images without negatives"),
        ({"p": 8}, "classes_per_batch=8, but there are 7 classes.*at most 7"),
        ({"p": 6, "k": 4, "short": "left_out"}, "=6, but there are 5 .*'repeat': 2 have fewer"),
        ({"short": "drop"}, "'repeat' or 'left_out', .*; got 'drop'"),
        ({"seed": -1}, "the seed 0 or more; got 'repeat' and -1"),
        ({"labels": np.array([0, 0, 2**31])}, r"Label 2147483648 lies outside int32"),
        ({"labels": np.array([0, 0, -(2**31) - 1])}, r"Label -2147483649 lies outside int32"),
        ({"labels": np.array([0, 2**63], np.uint64)}, r"Label 9223372036854775808 lies"),
        ({"labels": np.array(["a", "b"])}, r"integers \[n\]"),
        ({"labels": np.array([0.0, 1.0])}, r"integers \[n\]"),
        ({"labels": np.zeros(0, int)}, "=3, but there are 0 classes"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        plan_of(**change)


def test_a_deck_is_shuffled_anew_and_by_the_seed():
    """Six pictures a class in hands of three: one order for ever has two hands of each class."""

    def hands(seed):
        plan = plan_of(np.repeat([1, 2], 6), p=2, k=3, seed=seed)
        return [tuple(sorted(hand)) for n in range(40) for hand in plan[n].reshape(2, 3).tolist()]

    assert len({*hands(0)}) > 4
    by_class = [sorted(hand for hand in hands(seed)[:2]) for seed in range(8)]
    assert len({*map(tuple, by_class)}) > 1
