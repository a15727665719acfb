"""Folders of pictures and masks that belong together by name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.folders.classes import visible
from experiments.folders.layouts import Pair, natural
from zoo.data.images import read_image, read_mask


def paired_files(
    images: Path, masks: Path, image_suffixes: Sequence[str], mask_suffixes: Sequence[str]
) -> list[Pair]:
    """The pictures of one folder and their masks in another, matched by stem, in numeric order.

    Files with other endings are left alone. Raises OSError for a folder that is missing or
    unreadable, ValueError for an empty one and a file of no or two partners.
    """
    pictures, labels = _by_stem(images, image_suffixes), _by_stem(masks, mask_suffixes)
    for one, other, kind in ((pictures, labels, "mask"), (labels, pictures, "image")):
        if alone := sorted(set(one) - set(other), key=natural):
            more = f"{len(alone)} such files: add what is missing or take these away"
            where = masks if kind == "mask" else images
            raise ValueError(f"{one[alone[0]]} has no {kind} of that name in {where} ({more}).")
    return [(pictures[stem], labels[stem]) for stem in sorted(pictures, key=natural)]


def read_pair(pair: Pair, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture [h, w, channels], mask [h, w], uint8; ValueError if unreadable or of unequal size."""
    image, mask = read_image(pair[0], channels), read_mask(pair[1])
    if image.shape[:2] != mask.shape:
        own, other = (f"{size[1]}x{size[0]}" for size in (mask.shape, image.shape))
        what = f"The mask {pair[1]} is {own} px, but its image {pair[0]} is {other}"
        raise ValueError(f"{what}: make them equal.")
    return image, mask


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in visible(folder):
        if file.suffix.lower() in suffixes and file != found.setdefault(file.stem, file):
            raise ValueError(f"{found[file.stem]} and {file} share a name; take one away.")
    if not found:
        raise ValueError(f"The folder {folder} holds no {' or '.join(suffixes)} files.")
    return found
