"""Scenes of handwritten digits on textured ground, made from scikit-learn's 1,797 8x8 digits.

Three to six digits of random size and colour, partly over one another, drawn so that neither these
nor the ground tell the class. Training, validation and test scenes have digits of their own: 70, 10
and 20 % of each class. About every seventh scene has a void frame. The digits: Alpaydin and Kaynak,
"Optical Recognition of Handwritten Digits", UCI Machine Learning Repository 1998, test part.
"""

import functools
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image

from experiments.datasets._builders import SegmentationBuilder, png
from experiments.datasets.digits8x8 import split_digits
from experiments.folders.splits import SPLITS

DIGIT_SIZES = (16, 30)  # Pixels, both included: much below 16 an 8x8 digit is hard to read.
OVERLAP = 0.3  # Of the smaller of two digits' squares, at most.
VOID_SHARE = 0.15


class DigitScenes(SegmentationBuilder):
    """See the module. Options: the side of a scene, and how many scenes each split has."""

    CLASS_NAMES = ("background", *"0123456789")
    COLOURS = (  # Matplotlib's tab10 on black: ten colours that are told apart.
        (0, 0, 0), (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
        (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
    )  # fmt: skip
    MEAN, STD = (0.495, 0.505, 0.495), (0.25, 0.25, 0.25)
    OPTIONS: Mapping = dict(size=64, train_scenes=4000, validation_scenes=200, test_scenes=400)

    def set_up(self) -> None:
        if not 64 <= self.size <= 96:
            raise ValueError(f"digit_scenes makes scenes of 64 to 96 px, not {self.size}.")
        self.parts = {split: (split, self.options[f"{split}_scenes"]) for split in SPLITS}
        if min(count for _, count in self.parts.values()) < 1:
            raise ValueError(f"digit_scenes needs at least 1 scene in each split: {self.options}.")

    def _generate_examples(self, part: tuple[str, int]) -> Iterator[tuple[str, dict]]:
        split, count = part
        glyphs = digit_images(split)
        for index in range(count):
            rng = np.random.default_rng([SPLITS.index(split), index])
            image, label = scene(glyphs, self.size, rng)
            name = f"{split}_{index:05d}"
            yield name, {"image": png(image), "label": png(label), "name": name}


@functools.cache
def digit_images(split: str) -> tuple[np.ndarray, ...]:
    """The split's own digits: for each class, [n, 8, 8] float32 ink in 0..1."""
    digits, _, places = split_digits()
    return tuple((digits[rows] / 16).astype(np.float32) for rows in places[split])


def scene(
    glyphs: tuple[np.ndarray, ...], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image [size, size, 3] uint8 and label [size, size] uint8."""
    ground, cells = rng.uniform(30, 225, 3), rng.integers(4, 9)
    noise = (ground + rng.normal(scale=28, size=(cells, cells, 3))).astype(np.float32)
    image = np.stack([_resize(noise[..., c], size) for c in range(3)], axis=-1)
    label = np.zeros((size, size), np.uint8)
    for y, x, side in places(size, rng):
        colour = rng.uniform(0, 255, 3)
        while np.linalg.norm(colour - ground) < 110:  # Of 442: it must stand out.
            colour = rng.uniform(0, 255, 3)
        digit = rng.integers(10)
        ink = _resize(glyphs[digit][rng.integers(len(glyphs[digit]))], side)
        window = np.s_[y : y + side, x : x + side]
        # Soft edges, half covered where the label changes.
        cover = np.clip((ink - 0.5) * 3 + 0.5, 0, 1)[..., None]
        image[window] = (1 - cover) * image[window] + cover * colour
        label[window][ink >= 0.5] = digit + 1
    image += rng.normal(scale=6, size=image.shape)
    if rng.random() < VOID_SHARE:
        n = rng.integers(1, 4)
        label = np.pad(label[n:-n, n:-n], n, constant_values=DigitScenes.IGNORE_LABEL)
    return np.clip(np.round(image), 0, 255).astype(np.uint8), label


def places(size: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Squares (top, left, side), none over another by more than `OVERLAP` of the smaller one."""
    places, wanted = [], rng.integers(3, 7)
    while len(places) < wanted:
        for _ in range(50):
            side = rng.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1)
            y, x = rng.integers(0, size - side + 1, 2)
            if all(_overlap((y, x, side), other) <= OVERLAP for other in places):
                places.append((y, x, side))
                break
        else:
            places = []  # Too crowded for one more: start again.
    return places


def _overlap(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """The common area of two squares, as a part of the smaller one's."""
    sides = [min(a[i] + a[2], b[i] + b[2]) - max(a[i], b[i]) for i in range(2)]
    return max(sides[0], 0) * max(sides[1], 0) / min(a[2], b[2]) ** 2


def _resize(pixels: np.ndarray, side: int) -> np.ndarray:
    """[h, w] float32 -> [side, side] float32, bicubic."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
