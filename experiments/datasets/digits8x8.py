"""scikit-learn's 1,797 handwritten digits, 8x8 in 17 steps of grey, here scaled to 0..255.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository
1998, test part. Nothing is downloaded.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from experiments.datasets._builders import LabelledBuilder, png
from experiments.datasets._chosen import parse_numbers
from experiments.folders.splits import SPLITS


class Digits8x8(LabelledBuilder):
    """See the module.

    Of each class 70, 10 and 20 % train, validate and test. With the option `held_out`, such as
    "7-9", these classes are all of the test split; of the others 80 and 20 % train and validate.
    With `joined` the train split has further classes of so many pictures each: the upper half of
    one digit above the lower half of another ("3/5"), or the left beside the right ("3|5").
    """

    CHANNELS = 1
    MEAN, STD = (0.3053,), (0.3760,)
    OPTIONS: Mapping = dict(held_out="", joined=0)

    def set_up(self) -> None:
        self.held = parse_numbers(self.held_out, "held_out")
        if not set(self.held) <= set(range(10)) or len(self.held) > 8:
            raise ValueError(
                f"held_out={self.held_out!r} must name digits 0-9 and leave two of them."
            )
        if self.joined < 0:
            raise ValueError(f"joined={self.joined} must be at least 0, pictures a class.")
        trained = [n for n in range(10) if n not in self.held] if self.joined else []
        self.joins = [(*pair, how) for how in "/|" for pair in itertools.permutations(trained, 2)]
        self.classes = (*"0123456789", *(f"{a}{how}{b}" for a, b, how in self.joins))
        self.parts = {split: split for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        digits, labels, places = split_digits(self.held)
        digits = np.round(digits * (255 / 16)).astype(np.uint8)
        for i in np.sort(np.concatenate(places[split])):
            name = f"digit_{i:04d}"
            yield name, {"image": png(digits[i]), "label": int(labels[i]), "name": name}
        rng = np.random.default_rng(8)
        for label, (a, b, how) in enumerate(self.joins if split == "train" else (), 10):
            pairs = zip(*(rng.choice(places[split][n], self.joined) for n in (a, b)), strict=True)
            for n, (i, j) in enumerate(pairs):
                half = np.arange(8) < 4
                pixels = np.where(half[:, None] if how == "/" else half, digits[i], digits[j])
                name = f"joined_{label}_{n:03d}"
                yield name, {"image": png(pixels), "label": label, "name": name}


def split_digits(
    held_out: Collection[int] = (),
) -> tuple[np.ndarray, np.ndarray, dict[str, list[np.ndarray]]]:
    """Digits [n, 8, 8] 0..16, labels [n], and each split's places: a shuffled array a class."""
    from sklearn.datasets import load_digits  # Its import takes longer than the reading.

    digits, labels = load_digits(return_X_y=True)
    rng, places = np.random.default_rng(1998), {split: [] for split in SPLITS}
    for digit in range(10):
        own, ends = np.flatnonzero(labels == digit), (0.0, 0.0)
        if digit not in held_out:
            own, ends = rng.permutation(own), (0.8, 1.0) if held_out else (0.7, 0.8)
        parts = np.split(own, [round(end * len(own)) for end in ends])
        for split, part in zip(SPLITS, parts, strict=True):
            places[split].append(part)
    return digits.reshape(-1, 8, 8), labels, places
