"""Pairs of one class and of two, and endless shuffled rows of them, in plain NumPy."""

import functools
from collections.abc import Callable

import numpy as np


class Classes:
    """The images of a data set by class: those of class c are `order[start[c]:][:count[c]]`.

    Classes are numbered 0..k-1 in the order of their labels; `of` [n] is each image's class. Raises
    ValueError for labels that are not integers [n].
    """

    def __init__(self, labels: np.ndarray):
        labels = np.asarray(labels)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            got = f"{labels.dtype} {labels.shape}"
            hint = "np.unique(labels, return_inverse=True)[1] numbers any others"
            raise ValueError(f"Labels must be integers [n], one an image; got {got}. {hint}.")
        found = np.unique(labels, return_inverse=True, return_counts=True)
        self.labels, self.of, self.count = found
        self.order = np.argsort(self.of, kind="stable")
        self.start = np.cumsum(self.count) - self.count

    def positives(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Another image of the class of each, uniformly; each class must have two."""
        c, place = self.of[images], np.argsort(self.order)[images]
        drawn = self.start[c] + rng.integers(self.count[c] - 1)
        return self.order[drawn + (drawn >= place)]  # In `order`, all but the image itself.

    def negatives(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An image of another class for each, uniformly over those images; there must be one."""
        c = self.of[images]
        drawn = rng.integers(len(self.order) - self.count[c])
        # In `order` a class is one run: skip it.
        return self.order[np.where(drawn < self.start[c], drawn, drawn + self.count[c])]

    def anchors(self) -> np.ndarray:
        """The images that have a positive and a negative, ascending; ValueError for none."""
        anchors = np.flatnonzero(self.count[self.of] > 1)
        if len(self.count) < 2 or not len(anchors):
            got = f"{len(self.of)} images of {len(self.count)} classes"
            needs = "there must be a class of two images, and another class"
            raise ValueError(f"No pairs or triplets among {got}: {needs}.")
        return anchors


def make_pairs(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Draws for each of n images one partner of its class and one of another.

    Each is uniform over all images that it may be, so a large class is met more often. An image
    alone in its class has no positive, and with itself it would teach nothing: its place goes to
    another image's positive pair, so half of the pairs always match. Returns i and j, [2n] int64,
    first the n pairs that match, then the n that do not, and same, [2n] bool, whether the pair is
    of one class. Raises ValueError for labels that are not integers [n], of any values, and where
    there is no positive or no negative pair.
    """
    classes = Classes(labels)
    first, images = np.arange(len(classes.of)), np.arange(len(classes.of))
    alone = classes.count[classes.of] == 1
    first[alone] = rng.choice(classes.anchors(), alone.sum())
    j = np.concatenate([classes.positives(first, rng), classes.negatives(images, rng)])
    return np.concatenate([first, images]), j, np.repeat([True, False], len(images))


def endless_rows(draw: Callable, length: int, seed: int) -> Callable[[int], np.ndarray]:
    """Row i of endless epochs, [m] int64, as a function of i >= 0; it depends on the seed too.

    An epoch's rows are the columns that `draw` gives of a generator, `length` each, shuffled. Two
    epochs are kept; threads that make one at once make the same.
    """

    @functools.lru_cache(maxsize=2)
    def epoch(number: int) -> np.ndarray:
        rng = np.random.default_rng([seed, number])
        return rng.permutation(np.stack(draw(rng), axis=1))

    return lambda i: epoch(int(i) // length)[int(i) % length]
