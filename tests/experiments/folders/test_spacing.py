"""Sizes and gaps of objects drawn by hand."""

import numpy as np
import pytest

from experiments.folders.spacing import WINDOW, spacing


def drawn(*boxes, shape=(40, 60)):
    ids = np.full(shape, -1)
    for i, (top, left, height, width) in boxes:
        ids[top : top + height, left : left + width] = i
    return ids


def test_sides_and_gaps_are_those_drawn():
    """The first two are 5 px apart, the third is 9 px below the second."""
    ids = drawn((1, (2, 3, 8, 10)), (1, (4, 18, 6, 12)), (2, (19, 18, 7, 9)))
    sides, gaps = spacing(ids)
    assert sorted(sides) == [9, 10, 12] and sorted(gaps) == [5, 5, 9]


@pytest.mark.parametrize("gap", range(1, 7))
def test_pixels_between_are_counted(gap):
    assert spacing(drawn((0, (5, 5, 9, 4)), (0, (5, 9 + gap, 9, 4))))[1] == [gap, gap]
    assert spacing(drawn((0, (5, 5, 4, 9)), (0, (9 + gap, 5, 4, 9))))[1] == [gap, gap]


def test_what_touches_is_no_neighbour_and_specks_are_none():
    assert spacing(drawn((0, (5, 5, 9, 4)), (1, (5, 9, 9, 4)))) == ([9, 9], [])
    assert spacing(drawn((0, (5, 5, 9, 4)), (0, (5, 20, 1, 3)))) == ([9], [])
    assert spacing(drawn()) == ([], [])


def test_the_middle_of_a_large_mask_is_looked_at():
    shape = (3 * WINDOW, 2 * WINDOW)
    middle = (0, (shape[0] // 2, shape[1] // 2, 20, 30))
    assert spacing(drawn(middle, (0, (0, 0, 99, 99)), shape=shape)) == ([30], [])
