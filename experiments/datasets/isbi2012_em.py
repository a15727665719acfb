"""ISBI 2012: cell membranes in serial-section electron microscopy, Drosophila nerve cord.

Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy 2015; Cardona et al., PLoS Biology 2010. 512x512 grey
slices in `image/` and their labels in `label/`, where 0 is membrane and 255 is cell; here class 0
is cell and class 1 is membrane.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets._builders import SegmentationBuilder
from experiments.datasets._chosen import parse_numbers
from experiments.datasets._files import paired_files

SUFFIXES = (".png", ".tif", ".tiff")


class Isbi2012Em(SegmentationBuilder):
    """See the module.

    Options `train_slices` and `validation_slices` are lists such as "0-9,12": places in the stack
    from 0. One not given takes what the other leaves; without both, the first three quarters train.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = "give the one with image/ and label/ as data.path."
    CLASS_NAMES, COLOURS = ("cell", "membrane"), ((0, 0, 0), (230, 159, 0))
    CHANNELS = 1
    MEAN, STD = (0.4865,), (0.1665,)
    OPTIONS: Mapping = dict(train_slices=None, validation_slices=None)

    def source_files(self) -> list[Path]:
        nested = not (self.path / "image").exists() and (self.path / "train").is_dir()
        folder = self.path / "train" if nested else self.path
        stack = paired_files(folder / "image", folder / "label", SUFFIXES, SUFFIXES)
        chosen = choose_slices(**self.options, count=len(stack))
        splits = zip(("train", "validation"), chosen, strict=True)
        self.parts = {split: [stack[i] for i in slices] for split, slices in splits}
        return [file for pairs in self.parts.values() for pair in pairs for file in pair]

    def ids(self, mask: np.ndarray, file: Path) -> np.ndarray:
        if not np.isin(mask, (0, 255)).all():
            values = np.unique(mask)[:8].tolist()
            raise ValueError(f"{file} holds the values {values}; 0 is membrane, 255 cell.")
        return (mask == 0).astype(np.uint8)


def choose_slices(
    train_slices: str | None, validation_slices: str | None, count: int
) -> tuple[list[int], list[int]]:
    """The places of training and validation slices in a stack of `count`.

    Raises ValueError for a list that is unreadable, empty, overlaps the other or leaves the stack.
    """
    if train_slices is None and validation_slices is None:
        return list(range(count * 3 // 4)), list(range(count * 3 // 4, count))
    stack, where = set(range(count)), f"{train_slices=} and {validation_slices=}"
    given = {"train": train_slices, "validation": validation_slices}
    chosen = {s: set(parse_numbers(t, f"{s}_slices")) for s, t in given.items() if t is not None}
    train = chosen.get("train", stack - chosen.get("validation", set()))
    validation = chosen.get("validation", stack - train)
    if beyond := sorted((train | validation) - stack):
        raise ValueError(f"{where} ask for {beyond[0]}, but the slices are 0-{count - 1}.")
    if common := sorted(train & validation):
        raise ValueError(f"{where} share the slices {common}; a slice can serve one of them only.")
    if not train or not validation:
        raise ValueError(f"{where} of a stack of {count} leave one split without slices.")
    return sorted(train), sorted(validation)
