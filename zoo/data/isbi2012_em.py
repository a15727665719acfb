"""ISBI 2012: cell membranes in serial-section electron microscopy, Drosophila nerve cord.

Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy 2015; Cardona et al., PLoS Biology 2010. 512x512 grey
slices in `image/` and their labels in `label/`, where 0 is membrane and 255 is cell; here class 0
is cell and class 1 is membrane.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from zoo.data.folders import Pair, paired_files, read_pair
from zoo.data.prepare import SegmentationBuilder, png

CLASS_NAMES = ("cell", "membrane")
NUM_CLASSES = len(CLASS_NAMES)
COLOURS = ((0, 0, 0), (230, 159, 0))
SUFFIXES = (".png", ".tif", ".tiff")


class Isbi2012Em(SegmentationBuilder):
    """See the module.

    Options `train_slices` and `validation_slices` are lists such as "0-9,12": places in the stack
    from 0, both ends included. One that is not given takes what the other leaves; without both,
    the first three quarters train and the rest validates (of 20 slices, 0-14 and 15-19).
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "give the one with image/ and label/ as data.path."
    CLASS_NAMES, COLOURS, CHANNELS = CLASS_NAMES, COLOURS, 1
    MEAN = (0.4865,)
    STD = (0.1665,)
    DESCRIPTION = __doc__

    def __init__(
        self,
        *,
        train_slices: str | None = None,
        validation_slices: str | None = None,
        **kwargs,
    ):
        """Raises ValueError for lists that overlap or leave the stack, and for faulty folders."""
        self.slices = (train_slices, validation_slices)
        super().__init__(
            options={"train_slices": train_slices, "validation_slices": validation_slices},
            **kwargs,
        )

    def source_files(self) -> list[Path]:
        splits = self._pairs()
        return sorted({file for pairs in splits.values() for pair in pairs for file in pair})

    def _pairs(self) -> dict[str, list[Pair]]:
        if self.path is None:
            return {}
        if not self.path.is_dir():
            raise ValueError(f"The folder {self.path} is missing; it holds image/ and label/.")
        folder = self.path
        if not (folder / "image").exists() and (folder / "train").is_dir():
            folder = folder / "train"
        stack = paired_files(
            folder / "image", folder / "label", image_suffixes=SUFFIXES, mask_suffixes=SUFFIXES
        )
        train, validation = choose_slices(*self.slices, len(stack))
        return {
            "train": [stack[i] for i in train],
            "validation": [stack[i] for i in validation],
        }

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(pairs) for split, pairs in self._pairs().items()}

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[tuple[str, dict]]:
        for pair in pairs:
            image, mask = read_pair(pair, self.CHANNELS)
            values = np.unique(mask)
            if not set(values.tolist()) <= {0, 255}:
                raise ValueError(
                    f"The label {pair[1]} holds the values {values[:8].tolist()}; "
                    f"only 0 (membrane) and 255 (cell) are known."
                )
            label = (mask == 0).astype(np.uint8)
            name = pair[0].stem
            yield name, {"image": png(image), "label": png(label), "name": name}


def choose_slices(
    train: str | None, validation: str | None, count: int
) -> tuple[list[int], list[int]]:
    """The places of training and validation slices in a stack of `count`.

    Raises:
        ValueError: a list that cannot be read, leaves the stack, is empty or overlaps the other.
    """
    if train is None and validation is None:
        chosen = [list(range(count * 3 // 4)), list(range(count * 3 // 4, count))]
    else:
        chosen = [
            _parse(text, name, count) if text is not None else None
            for text, name in ((train, "train_slices"), (validation, "validation_slices"))
        ]
        for i in range(2):
            if chosen[i] is None:
                chosen[i] = [n for n in range(count) if n not in chosen[1 - i]]
    common = sorted(set(chosen[0]) & set(chosen[1]))
    if common:
        raise ValueError(
            f"train_slices={train!r} and validation_slices={validation!r} share the slices "
            f"{common}; a slice can serve only one of them."
        )
    if not chosen[0] or not chosen[1]:
        raise ValueError(
            f"train_slices={train!r} and validation_slices={validation!r} of a stack of {count} "
            f"leave one split without slices."
        )
    return chosen[0], chosen[1]


def _parse(text: str, name: str, count: int) -> list[int]:
    slices: set[int] = set()
    for part in str(text).split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f'{name}={text!r} is no list of slices such as "0-9,12".')
        low, high = int(first), int(last or first)
        if not low <= high < count:
            raise ValueError(
                f"{name}={text!r} asks for {part.strip()}, but the stack's slices are "
                f"0-{count - 1}; a range goes upwards."
            )
        slices.update(range(low, high + 1))
    return sorted(slices)
