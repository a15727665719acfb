import types

import numpy as np
import pytest

from zoo.data.class_weights import class_counts, median_frequency


class Pictures(list):
    """A source of labels; void is 9."""

    info = types.SimpleNamespace(num_classes=4, ignore_label=9)


def pictures(*labels):
    return Pictures({"label": np.array(label, np.uint8)} for label in labels)


def test_counts_and_weights_by_hand():
    source = pictures([[0, 0, 0], [0, 1, 9]], [[0, 0], [2, 2]], [[9, 9]])
    counts = class_counts(source)
    # Class 0: 4 + 2 pixels in pictures with 5 and 4 labelled ones; class 3 occurs nowhere.
    np.testing.assert_array_equal(counts, [[6, 1, 2, 0], [9, 5, 4, 0]])
    assert counts.dtype == np.int64
    # Frequencies 6/9, 1/5, 2/4: the median is 1/2.
    np.testing.assert_allclose(median_frequency(counts), [0.75, 2.5, 1.0, 0.0])
    np.testing.assert_allclose(median_frequency(counts, power=0.5), [0.75**0.5, 2.5**0.5, 1.0, 0.0])
    np.testing.assert_array_equal(median_frequency(counts, power=0.0), [1, 1, 1, 0])


def test_even_number_of_classes_takes_the_middle_of_two():
    # Frequencies 1/2, 1/4, 1/8, 1/8; the median is 3/16.
    counts = class_counts(pictures([[0, 0, 0, 0, 1, 1, 2, 3]]))
    np.testing.assert_allclose(median_frequency(counts), [0.375, 0.75, 1.5, 1.5])


def test_refuses_labels_that_are_all_void():
    with pytest.raises(ValueError, match=r"No pixel is labelled.*task\.class_weights=none"):
        median_frequency(class_counts(pictures([[9, 9]])))
