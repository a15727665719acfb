"""scikit-learn's 1,797 handwritten digits, 8x8 in 17 steps of grey, here scaled to 0..255.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository
1998, test part. Nothing is downloaded.
"""

from collections.abc import Iterator

import numpy as np

from zoo.data.prepare import LabelledBuilder, png
from zoo.data.splits import SPLITS, parse_numbers


class Digits8x8(LabelledBuilder):
    """See the module.

    Of each class 70, 10 and 20 % train, validate and test. With the option `held_out`, such as
    "7-9", these classes are all of the test split; of the others 80 and 20 % train and validate.
    """

    CHANNELS = 1
    MEAN = (0.3053,)
    STD = (0.3760,)
    classes = tuple("0123456789")

    def __init__(self, *, held_out: str = "", **kwargs):
        """Raises ValueError for a class that is no digit, too few left to train, or a path."""
        self.held_out = parse_numbers(held_out, "held_out")
        if not set(self.held_out) <= set(range(10)) or len(self.held_out) > 8:
            raise ValueError(f"held_out={held_out!r} must name digits 0-9 and leave two of them.")
        super().__init__(options={"held_out": held_out}, **kwargs)

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits  # Its import takes longer than the reading.

        digits, labels = load_digits(return_X_y=True)
        digits = np.round(digits.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        rng = np.random.default_rng(1998)
        splits = np.full(len(labels), "test", object)
        for digit in sorted(set(range(10)) - set(self.held_out)):
            places = rng.permutation(np.flatnonzero(labels == digit))
            train, validation = (0.8, 1.0) if self.held_out else (0.7, 0.8)
            splits[places[: round(validation * len(places))]] = "validation"
            splits[places[: round(train * len(places))]] = "train"
        return {s: self._generate_examples(digits, labels, splits == s) for s in SPLITS}

    def _generate_examples(
        self, digits: np.ndarray, labels: np.ndarray, chosen: np.ndarray
    ) -> Iterator[tuple[str, dict]]:
        for i in np.flatnonzero(chosen):
            name = f"digit_{i:04d}"
            yield name, {"image": png(digits[i]), "label": int(labels[i]), "name": name}
