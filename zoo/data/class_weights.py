"""Weights that let rare classes count: median-frequency balancing.

Eigen & Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
Convolutional Architecture", ICCV 2015, Sec. 4.4; made known for CamVid by SegNet. Void pixels count
nowhere, neither for a class nor for the size of a picture.
"""

from collections.abc import Sequence

import numpy as np


def class_counts(source: Sequence) -> np.ndarray:
    """Counts the pixels of each class in a source's labels.

    Returns:
        [2, k] int64: the pixels of each class, and all labelled pixels of the pictures in which
        the class occurs.
    """
    counts = np.zeros((2, source.info.num_classes), np.int64)
    for index in range(len(source)):
        pixels = np.bincount(source[index]["label"].ravel(), minlength=256)
        pixels[source.info.ignore_label] = 0
        pixels = pixels[: source.info.num_classes]
        counts[0] += pixels
        counts[1] += np.where(pixels > 0, pixels.sum(), 0)
    return counts


def median_frequency(counts: np.ndarray, *, power: float = 1.0) -> np.ndarray:
    """The weight of each class, (median frequency / its frequency) ** power.

    A class's frequency is its pixels over all labelled pixels of the pictures in which it occurs.

    Args:
        counts: [2, k], as `class_counts` gives.
        power: 1 as the paper; 0.5 is gentler, 0 weighs all alike.

    Returns:
        [k] float64; 0 for a class that occurs nowhere, which the median leaves out too.

    Raises:
        ValueError: no pixel is labelled.
    """
    pixels, among = counts
    occurs = pixels > 0
    if not occurs.any():
        raise ValueError(
            "No pixel is labelled, so classes cannot be weighed; set task.class_weights=none, "
            "and look at the labels: all are void."
        )
    frequency = pixels[occurs] / among[occurs]
    weights = np.zeros(len(pixels))
    weights[occurs] = (np.median(frequency) / frequency) ** power
    return weights
