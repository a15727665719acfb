"""Weights that let rare classes count: median-frequency balancing.

Eigen & Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
Convolutional Architecture", ICCV 2015, Sec. 6.3.2; known by SegNet. Void pixels do not count.
"""

from collections.abc import Sequence

import numpy as np


def class_counts(source: Sequence) -> np.ndarray:
    """[2, k] int64: pixels of each class, and all labelled pixels of the pictures that show it."""
    counts = np.zeros((2, source.info.num_classes), np.int64)
    for index in range(len(source)):
        pixels = np.bincount(source[index]["label"].ravel(), minlength=256)
        pixels[source.info.ignore_label] = 0
        pixels = pixels[: source.info.num_classes]
        counts += [pixels, (pixels > 0) * pixels.sum()]
    return counts


def median_frequency(counts: np.ndarray, *, power: float = 1.0) -> np.ndarray:
    """The weight of each class, [k] float64: (median frequency / its frequency) ** power.

    A class's frequency is its pixels over all labelled pixels of the pictures in which it occurs,
    of `class_counts`. One that occurs nowhere weighs 0 and is not in the median. A power of 1 is
    the paper's, 0.5 is gentler, 0 weighs all alike. ValueError: no pixel is labelled.
    """
    pixels, among = counts
    if not (occurs := pixels > 0).any():
        raise ValueError("No pixel is labelled, all are void; set task.class_weights=none.")
    frequency = pixels[occurs] / among[occurs]
    weights = np.zeros(len(pixels))
    weights[occurs] = (np.median(frequency) / frequency) ** power
    return weights
