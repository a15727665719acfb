"""Batches of P classes x K images, as batch mining needs them, in plain NumPy.

Hermans, Beyer & Leibe, "In Defense of the Triplet Loss for Person Re-Identification",
arXiv:1703.07737, Sec. 2.
"""

import functools

import numpy as np

from zoo.data.pairs import Classes

_ORDER, _FIRST, _AGAIN = 1, 2, 3  # What a random stream is for.


class Plan:
    """Batch n, n >= 0 without end, depends on the seed and n alone; see `class_balanced_batches`.

    `plan[n]` is [P * K] int64: the places of K images of one class, then K of the next. An epoch
    is `batches_per_epoch` batches, in which each class occurs.
    """

    def __init__(self, images: list[np.ndarray], usable: np.ndarray, p: int, k: int, seed: int):
        self.batches_per_epoch = -(-len(usable) // p)
        self._images, self._usable, self._p, self._k, self._seed = images, usable, p, k, seed
        self._order = functools.lru_cache(maxsize=2)(self._shuffled_classes)
        # One deck of each class is in use at a time: together as large as the labels.
        self._deck = functools.lru_cache(maxsize=2 * len(usable))(self._shuffled)

    def __getitem__(self, n: int) -> np.ndarray:
        epoch, place = divmod(int(n), self.batches_per_epoch)
        order, first = self._order(epoch), place * self._p
        slots = range(first, first + self._p)
        return np.concatenate([self._dealt(int(order[slot]), epoch, slot) for slot in slots])

    def _shuffled_classes(self, epoch: int) -> np.ndarray:
        """[batches_per_epoch * P]: each class once, then those that fill the last batch."""
        rng = np.random.default_rng([self._seed, _ORDER, epoch])
        order = rng.permutation(self._usable)
        seen = (self.batches_per_epoch - 1) * self._p  # Before the last batch.
        missing = seen + self._p - len(order)
        return np.concatenate([order, rng.choice(order[:seen], missing, replace=False)])

    def _dealt(self, c: int, epoch: int, slot: int) -> np.ndarray:
        """[K]: the next of the class's deck, which is shuffled anew once all have been dealt."""
        count = len(self._images[c])
        # Classes that fill up have a deck of their own, so that no visit depends on earlier ones.
        stream = _FIRST if slot < len(self._usable) else _AGAIN
        shuffle, visit = divmod(epoch, -(-count // self._k))
        # The last visit to a deck, and any to a class of fewer than K, goes round to its start.
        dealt = (visit * self._k + np.arange(self._k)) % count
        return self._deck(stream, c, shuffle)[dealt]

    def _shuffled(self, stream: int, c: int, shuffle: int) -> np.ndarray:
        return np.random.default_rng([self._seed, stream, c, shuffle]).permutation(self._images[c])


def class_balanced_batches(
    labels: np.ndarray,
    *,
    classes_per_batch: int,
    examples_per_class: int,
    seed: int,
    short: str = "repeat",
) -> Plan:
    """Plans batches of P = `classes_per_batch` classes with K = `examples_per_class` images each.

    The classes of a batch are distinct. In an epoch every class occurs once before any occurs
    twice, and twice only where P does not divide their number: the last batch is filled with
    classes seen. A class's images are dealt like cards: K distinct ones a time, all of them before
    any comes again. A class of fewer than K, if `short` is "repeat", repeats images (evenly, to
    within one), else it is "left_out". Raises ValueError for K < 2, P < 2, fewer than P classes to
    draw from, an impossible option, and labels that are not integers [n] or do not fit int32.
    """
    p, k = classes_per_batch, examples_per_class
    if k < 2:
        raise ValueError(f"examples_per_class={k} leaves images without positives; take 2 or more.")
    if p < 2:
        raise ValueError(f"classes_per_batch={p} leaves images without negatives; take 2 or more.")
    if short not in ("repeat", "left_out") or seed < 0:
        got = f"{short!r} and {seed}"
        raise ValueError(f"short must be 'repeat' or 'left_out', the seed 0 or more; got {got}.")
    classes = Classes(labels)
    if beyond := [n for n in classes.labels.tolist() if not -(2**31) <= n < 2**31]:
        # Refused here: JAX would wrap it under jit, and merge classes.
        raise ValueError(f"Label {beyond[0]} lies outside int32; number the classes anew.")
    usable = np.flatnonzero(classes.count >= (k if short == "left_out" else 1))
    if p > len(usable):
        few = len(classes.count) - len(usable)
        hint = f", or short='repeat': {few} have fewer than {k} images" if few else ""
        there = f"there are {len(usable)} classes to draw from; take at most {len(usable)}"
        raise ValueError(f"classes_per_batch={p}, but {there}{hint}.")
    return Plan(np.split(classes.order, classes.start[1:]), usable, p, k, seed)
