"""ISBI 2012: cell membranes in serial-section electron microscopy, Drosophila nerve cord.

Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy 2015; Cardona et al., PLoS Biology 2010. 512x512 grey
slices in `image/` and their labels in `label/`, where 0 is membrane and 255 is cell; here class 0
is cell and class 1 is membrane.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoo.data.folders import Pair, paired_files, read_pair
from zoo.data.prepare import SegmentationBuilder, png
from zoo.data.splits import parse_numbers

SUFFIXES = (".png", ".tif", ".tiff")


class Isbi2012Em(SegmentationBuilder):
    """See the module.

    Options `train_slices` and `validation_slices` are lists such as "0-9,12": places in the stack
    from 0. One not given takes what the other leaves; without both, the first three quarters train.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = "give the one with image/ and label/ as data.path."
    CLASS_NAMES, COLOURS = ("cell", "membrane"), ((0, 0, 0), (230, 159, 0))
    CHANNELS = 1
    MEAN = (0.4865,)
    STD = (0.1665,)

    def __init__(
        self, *, train_slices: str | None = None, validation_slices: str | None = None, **kwargs
    ):
        """Raises ValueError for lists that overlap or leave the stack, and for faulty folders."""
        self.slices = {"train_slices": train_slices, "validation_slices": validation_slices}
        super().__init__(options=self.slices, **kwargs)

    def source_files(self) -> list[Path]:
        folder = self.path
        if not (folder / "image").exists() and (folder / "train").is_dir():
            folder = folder / "train"
        stack = paired_files(folder / "image", folder / "label", SUFFIXES, SUFFIXES)
        chosen = choose_slices(**self.slices, count=len(stack))
        train, validation = ([stack[i] for i in slices] for slices in chosen)
        self.parts = {"train": train, "validation": validation}
        return [file for pair in train + validation for file in pair]

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[tuple[str, dict]]:
        for pair in pairs:
            image, mask = read_pair(pair, self.CHANNELS)
            values = np.unique(mask)
            if not set(values.tolist()) <= {0, 255}:
                raise ValueError(
                    f"{pair[1]} holds the values {values[:8].tolist()}; 0 is membrane, 255 cell."
                )
            label = (mask == 0).astype(np.uint8)
            name = pair[0].stem
            yield name, {"image": png(image), "label": png(label), "name": name}


def choose_slices(
    train_slices: str | None, validation_slices: str | None, count: int
) -> tuple[list[int], list[int]]:
    """The places of training and validation slices in a stack of `count`.

    Raises ValueError for a list that is unreadable, empty, overlaps the other or leaves the stack.
    """
    if train_slices is None and validation_slices is None:
        return list(range(count * 3 // 4)), list(range(count * 3 // 4, count))
    given = {"train_slices": train_slices, "validation_slices": validation_slices}
    chosen = [set(parse_numbers(t, o)) if t is not None else None for o, t in given.items()]
    stack = set(range(count))
    train, validation = (
        stack - other if own is None else own for own, other in (chosen, chosen[::-1])
    )
    where = " and ".join(f"{option}={text!r}" for option, text in given.items())
    if beyond := sorted((train | validation) - stack):
        raise ValueError(f"{where} ask for {beyond[0]}, but the slices are 0-{count - 1}.")
    if common := sorted(train & validation):
        raise ValueError(f"{where} share the slices {common}; a slice can serve one of them only.")
    if not train or not validation:
        raise ValueError(f"{where} of a stack of {count} leave one split without slices.")
    return sorted(train), sorted(validation)
