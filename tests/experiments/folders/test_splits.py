import numpy as np
import pytest

from experiments.datasets._chosen import SPLITS, split_by_hash

NAMES = [f"class{i}" for i in range(2000)]


@pytest.mark.parametrize("shares", [(0.2, 0.2), (0.1, 0.0), (0.0, 0.5), (0, 0)])
def test_shares_are_kept_in_the_mean(shares):
    splits = list(split_by_hash(NAMES, *shares).values())
    want = (1 - sum(shares), *shares)
    for split, share in zip(SPLITS, want, strict=True):
        # Three standard deviations of a share of 2,000 draws.
        bound = 3 * np.sqrt(share * (1 - share) / 2000)
        assert abs(splits.count(split) / 2000 - share) <= bound


def test_what_is_added_moves_nothing_else():
    few, many = split_by_hash(NAMES[500:600], 0.2, 0.2), split_by_hash(NAMES, 0.2, 0.2)
    assert all(many[name] == split for name, split in few.items())
    assert split_by_hash(NAMES[::-1], 0.2, 0.2) == many


def test_no_split_is_empty_where_that_is_possible():
    for start in range(300):
        for count in (3, 4, 5):
            splits = split_by_hash(NAMES[start : start + count], 0.05, 0.05)
            assert set(splits.values()) == set(SPLITS)
    assert set(split_by_hash(NAMES[:2], 0, 0.5).values()) == {"train", "test"}


@pytest.mark.parametrize(
    ("count", "shares", "message"),
    [
        (2, (0.2, 0.2), "2 classes or pictures cannot fill train, validation, test"),
        (1, (0.2, 0), "1 classes or pictures cannot fill train, validation"),
        (9, (0.5, 0.5), "leave a part to train with"),
        (9, (-0.1, 0.5), "must be at least 0"),
    ],
)
def test_what_cannot_be_split_is_refused(count, shares, message):
    with pytest.raises(ValueError, match=message):
        split_by_hash(NAMES[:count], *shares)
