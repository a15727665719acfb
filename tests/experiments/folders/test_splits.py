import os

import numpy as np
import pytest

from experiments.folders.splits import (
    SPLITS,
    grouped,
    hold_out,
    split_by_hash,
    split_classes,
    split_pictures,
)

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


def test_another_seed_draws_another_split():
    first, again, other = (split_by_hash(NAMES, 0.2, 0.2, seed) for seed in (0, 0, 1))
    assert first == again == split_by_hash(NAMES, 0.2, 0.2)
    # As if drawn anew: 0.6^2 + 0.2^2 + 0.2^2 stay where they were.
    stay = np.mean([first[name] == other[name] for name in NAMES])
    assert abs(stay - 0.44) < 3 * np.sqrt(0.44 * 0.56 / 2000)


def test_a_name_that_is_no_text_is_drawn():
    assert len(split_by_hash([os.fsdecode(b"caf\xe9"), *NAMES[:9]], 0.2, 0.2)) == 10


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


def test_groups_join_what_is_joined_by_steps():
    found = grouped(["a1", "b", "c", "d", "a2"], [(1, 2), (2, 3)], "^a")
    assert found == {"a1": "a", "a2": "a", "b": "b", "c": "b", "d": "b"}


def test_near_duplicates_join_groups_under_the_least_finding():
    names = ["x", "a/p2", "a/p1", "b/p1", "y"]
    found = grouped(names, [(0, 1), (1, 2)], r"p\d")
    assert found == {"y": "y"} | dict.fromkeys(names[:-1], "p1")
    # Another picture of either, first of all by name, changes nothing.
    more = grouped(["0/p2", *names], [(1, 2), (2, 3)], r"p\d")
    assert more == found | {"0/p2": "p1"}


@pytest.mark.parametrize("pattern", ["patient[0-9]+", "(patient[0-9]+)_[a-z]"])
def test_what_is_added_to_a_group_moves_no_other(pattern):
    old = [f"images/patient{p:02d}_{s}.png" for p in range(30) for s in "klm"]
    new = [f"images/patient{p:02d}_a.png" for p in range(30)]
    before, after = (
        split_pictures(dict.fromkeys(names, ""), grouped(names, [], pattern), 0.2, 0.2)[0]
        for names in (old, sorted([*new, *old]))
    )
    assert all({*before[split]} <= {*after[split]} for split in before)
    assert sum(map(len, after.values())) == 120 and all(before.values())


def alone(names):
    return {name: name for name in names}


def pictures(classes, each=4):
    return {f"c{c}/{i}": f"c{c}" for c in range(classes) for i in range(each)}


def test_classes_that_share_a_group_share_a_split():
    classes = pictures(40)
    groups = alone(classes) | {"c7/1": "c3/2", "c9/0": "c7/0"}
    splits = split_classes(classes, groups, 0.3, 0.3)
    by_class = {
        name: {splits[n] for n in classes if classes[n] == name} for name in set(classes.values())
    }
    assert all(len(some) == 1 for some in by_class.values())
    assert by_class["c3"] == by_class["c7"] == by_class["c9"]
    # The others are drawn as by themselves.
    want = split_by_hash(list(by_class), 0.3, 0.3)
    assert all(by_class[name] == {want[name]} for name in by_class if name not in ("c7", "c9"))


def test_classes_that_are_all_one_group_are_refused():
    classes = pictures(6)
    with pytest.raises(ValueError, match=r"6 classes are 1 group\(s\).*too few for 2 splits"):
        split_classes(classes, dict.fromkeys(classes, "c0/0"), 0.2, 0)


def test_whole_classes_are_held_out_where_they_are_enough():
    assert hold_out(pictures(30), alone(pictures(30)))[0]
    assert not hold_out(pictures(3), alone(pictures(3)))[0]
    classes = pictures(30)  # All joined by near-duplicates of the first.
    joined = alone(classes) | {f"c{c}/0": "c0/0" for c in range(30)}
    assert not hold_out(classes, joined)[0]


def test_more_are_held_out_where_few_leave_no_pairs():
    for each in range(5, 14):
        classes = pictures(2, each)
        enough, share, _ = hold_out(classes, alone(classes))
        splits, _ = split_pictures(dict.fromkeys(classes, ""), alone(classes), share, 0)
        for split in ("train", "validation"):
            held = [classes[n] for n in splits[split]]
            assert not enough and len({*held}) == 2 and len(held) > 2
    with pytest.raises(ValueError, match="4 pictures of 2 classes do not leave two of one class"):
        hold_out(pictures(2, 2), alone(pictures(2, 2)))


def test_pictures_that_are_all_one_group_are_refused():
    classes = pictures(2)
    with pytest.raises(ValueError, match=r"8 pictures are 1 group\(s\).*too few"):
        hold_out(classes, dict.fromkeys(classes, "c0/0"))


def test_splits_that_the_folder_gives_are_kept():
    given = {"a": "train", "b": "train", "c": "validation", "d": "test"}
    splits, rule = split_pictures(given, alone(given), 0.2, 0.0)
    assert splits == {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    assert rule == "as the folders give it"
    with pytest.raises(ValueError, match="has validation, but nothing to train with; add train/"):
        split_pictures({"c": "validation"}, {"c": "c"}, 0.2, 0.0)


def test_a_pattern_that_finds_nothing_is_refused():
    names = ["images/patient1_a.png", "images/patient1_b.png"]
    assert len({*grouped(names, [], r"patient\d+").values()}) == 1
    with pytest.raises(ValueError, match=r"found in no path .*, such as images/patient1_a.png"):
        grouped(names, [], r"^patient\d+")


SLICES = [f"images/patient{p}_slice{s}.png" for p in range(4) for s in range(5)]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("patient[0-9]+", 4),
        ("(patient[0-9]+)_slice[0-9]+", 4),
        ("patient([0-9]+)_slice[0-9]+", 4),
        ("(?:patient[0-9]+)_slice([0-9])", 5),
    ],
)
def test_what_stands_in_parentheses_tells_the_groups(pattern, count):
    assert len({*grouped(SLICES, [], pattern).values()}) == count


@pytest.mark.parametrize("pattern", ["patient[0-9]+_slice[0-9]+", "(patient[0-9]+)_slice([0-9])"])
def test_a_pattern_that_joins_nothing_is_refused(pattern):
    words = "joins nothing: it finds another thing in each of 20 paths, such as .* in "
    with pytest.raises(ValueError, match=rf"{words}images/patient0_slice0.png; .*parentheses"):
        grouped(SLICES, [], pattern)


def test_parentheses_that_hold_nothing_join_nothing():
    """Of what else the pattern found it may be many things."""
    names = ["a/p1_s1", "a/p1_s2", "b/x", "c/y"]
    groups = grouped(names, [], r"(p\d+)?_s|[bc]/")
    assert groups == {"a/p1_s1": "p1", "a/p1_s2": "p1", "b/x": "b/", "c/y": "c/"}


def test_a_rule_tells_the_number_of_groups():
    groups = grouped(SLICES, [], "(patient[0-9]+)_slice[0-9]+")
    splits, rule = split_pictures(dict.fromkeys(SLICES, ""), groups, 0.3, 0)
    assert "20 pictures in 4 groups that stay together" in rule
    patients = [{name[14] for name in splits[s]} for s in ("train", "validation")]
    assert not patients[0] & patients[1] and len(patients[0] | patients[1]) == 4
