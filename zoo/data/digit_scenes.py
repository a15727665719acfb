"""Scenes of handwritten digits on textured ground, made from scikit-learn's 1,797 8x8 digits.

Nothing is downloaded. Three to six digits of random size and colour lie on smooth noise, partly
over one another; a pixel of ink is of its digit's class. Places, sizes, colours and ground are
drawn before the digit is chosen, so none of them tells the class. Training, validation and test
scenes are written with different digits: 70, 10 and 20 % of each class. About every seventh scene
has a void frame.

The digits: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository 1998, test part.
"""

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from zoo.data.prepare import SegmentationBuilder, png

CLASS_NAMES = ("background", *"0123456789")
NUM_CLASSES = len(CLASS_NAMES)
IGNORE_LABEL = 255
# Matplotlib's tab10 on black: ten colours that are told apart.
COLOURS = (
    (0, 0, 0),
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
)
SPLITS = ("train", "validation", "test")
DIGIT_SIZES = (16, 30)  # Pixels, both included: much below 16 an 8x8 digit is hard to read.
OVERLAP = 0.3  # Of the smaller of two digits' squares, at most.
VOID_SHARE = 0.15


class DigitScenes(SegmentationBuilder):
    """See the module. Options: the side of a scene, and how many scenes each split has."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES, COLOURS, IGNORE_LABEL = CLASS_NAMES, COLOURS, IGNORE_LABEL
    MEAN = (0.495, 0.505, 0.495)
    STD = (0.25, 0.25, 0.25)
    DESCRIPTION = __doc__

    def __init__(
        self,
        *,
        size: int = 64,
        train_scenes: int = 4000,
        validation_scenes: int = 200,
        test_scenes: int = 400,
        path: None = None,
        **kwargs,
    ):
        """Raises ValueError for a size outside 64..96, a split without scenes, or a path."""
        if path is not None:
            raise ValueError(f"digit_scenes reads no files: leave out the path {str(path)!r}.")
        if not 64 <= size <= 96:
            raise ValueError(f"digit_scenes makes scenes of 64 to 96 px, not {size}.")
        self.size = size
        self.counts = (train_scenes, validation_scenes, test_scenes)
        if min(self.counts) < 1:
            raise ValueError(
                f"digit_scenes needs at least 1 scene in each of {', '.join(SPLITS)}; "
                f"got {self.counts}."
            )
        options = {f"{s}_scenes": n for s, n in zip(SPLITS, self.counts, strict=True)}
        super().__init__(options={"size": size, **options}, **kwargs)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        glyphs = digit_images(split)
        for index in range(self.counts[SPLITS.index(split)]):
            rng = np.random.default_rng([SPLITS.index(split), index])
            image, label = scene(glyphs, self.size, rng)
            name = f"{split}_{index:05d}"
            yield name, {"image": png(image), "label": png(label), "name": name}


@functools.cache
def digit_images(split: str) -> tuple[np.ndarray, ...]:
    """The split's own digits: for each class, [n, 8, 8] float32 ink in 0..1."""
    from sklearn.datasets import load_digits  # Its import takes longer than the scenes' reading.

    digits, targets = load_digits(return_X_y=True)
    digits = (digits.reshape(-1, 8, 8) / 16).astype(np.float32)
    rng = np.random.default_rng(1998)
    chosen = []
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(targets == digit))
        parts = np.split(order, [round(0.7 * len(order)), round(0.8 * len(order))])
        chosen.append(digits[parts[SPLITS.index(split)]])
    return tuple(chosen)


def scene(
    glyphs: tuple[np.ndarray, ...], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image [size, size, 3] uint8 and label [size, size] uint8."""
    image, ground = _ground(size, rng)
    label = np.zeros((size, size), np.uint8)
    for y, x, side in places(size, rng):
        colour = _colour(ground, rng)
        digit = rng.integers(10)
        ink = _resize(glyphs[digit][rng.integers(len(glyphs[digit]))], side)
        window = np.s_[y : y + side, x : x + side]
        # Soft edges, half covered where the label changes.
        cover = np.clip((ink - 0.5) * 3 + 0.5, 0, 1)[..., None]
        image[window] = (1 - cover) * image[window] + cover * colour
        label[window][ink >= 0.5] = digit + 1
    image += rng.normal(scale=6, size=image.shape)
    if rng.random() < VOID_SHARE:
        inside = np.zeros((size, size), bool)
        frame = rng.integers(1, 4)
        inside[frame:-frame, frame:-frame] = True
        label[~inside] = IGNORE_LABEL
    return np.clip(np.round(image), 0, 255).astype(np.uint8), label


def _ground(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Smooth coloured noise [size, size, 3] float32 and its mean colour [3]."""
    colour = rng.uniform(30, 225, 3)
    cells = rng.integers(4, 9)
    noise = colour + rng.normal(scale=28, size=(cells, cells, 3))
    ground = np.stack([_resize(noise[..., c].astype(np.float32), size) for c in range(3)], -1)
    return ground, colour


def places(size: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Squares (top, left, side), none over another by more than `OVERLAP` of the smaller one."""
    places = []
    wanted = rng.integers(3, 7)
    while len(places) < wanted:
        for _ in range(50):
            side = rng.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1)
            y, x = rng.integers(0, size - side + 1, 2)
            if all(_overlap((y, x, side), other) <= OVERLAP for other in places):
                places.append((y, x, side))
                break
        else:
            # Too crowded for one more: start again.
            places = []
    return places


def _overlap(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """The common area of two squares, as a part of the smaller one's."""
    sides = [min(a[i] + a[2], b[i] + b[2]) - max(a[i], b[i]) for i in range(2)]
    return max(sides[0], 0) * max(sides[1], 0) / min(a[2], b[2]) ** 2


def _colour(ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour that stands out from the ground's mean: at least 110 of the cube's 442 away."""
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.linalg.norm(colour - ground) >= 110:
            return colour


def _resize(pixels: np.ndarray, side: int) -> np.ndarray:
    """[h, w] float32 -> [side, side] float32, bicubic."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
