"""Folders of pictures and masks that belong together by name."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.images import read_image, read_mask

Pair = tuple[Path, Path]  # The files of a picture and of its mask.


def paired_files(
    images: Path, masks: Path, *, image_suffixes: Sequence[str], mask_suffixes: Sequence[str]
) -> list[Pair]:
    """The pictures of one folder and their masks in another, matched by stem, in numeric order.

    Files with other endings are left alone.

    Raises:
        ValueError: a folder is missing, unreadable or empty, or a file has no or two partners.
    """
    pictures, labels = _by_stem(images, image_suffixes), _by_stem(masks, mask_suffixes)
    for one, other, folder, kind in (
        (pictures, labels, masks, "mask"),
        (labels, pictures, images, "image"),
    ):
        alone = sorted(set(one) - set(other), key=natural)
        if alone:
            raise ValueError(
                f"{one[alone[0]]} has no {kind} of that name in {folder} "
                f"({len(alone)} such files): add what is missing or take these away."
            )
    return [(pictures[stem], labels[stem]) for stem in sorted(pictures, key=natural)]


def read_pair(pair: Pair, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture [h, w, channels] and its mask [h, w], both uint8.

    Raises:
        ValueError: either cannot be read, or they differ in size.
    """
    image, mask = read_image(pair[0], channels), read_mask(pair[1])
    if image.shape[:2] != mask.shape:
        sizes = [f"{size[1]}x{size[0]}" for size in (mask.shape, image.shape)]
        raise ValueError(
            f"The mask {pair[1]} is {sizes[0]} px, but its image {pair[0]} is {sizes[1]}; "
            f"both must be of one size."
        )
    return image, mask


def natural(text: str) -> list:
    """A key that sorts by the numbers within names: f9 before f10."""
    parts = re.split(r"(\d+)", text)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)] + [text]


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(
            f"The folder {folder} cannot be read ({error.strerror}); check the path."
        ) from error
    found: dict[str, Path] = {}
    for file in files:
        if file.suffix.lower() in suffixes and not file.name.startswith("."):
            if file.stem in found:
                raise ValueError(f"{found[file.stem]} and {file} share a name; take one away.")
            found[file.stem] = file
    if not found:
        raise ValueError(f"The folder {folder} holds no {' or '.join(suffixes)} files.")
    return found
