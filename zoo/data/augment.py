"""Random changes of a picture and its label, drawn alike for both.

Flips, quarter turns and unscaled crops move whole pixels. Scale, rotation, shear, shift and elastic
deformation are composed with the crop into one map, so a picture is interpolated (linearly) and a
label sampled (at the nearest pixel) exactly once.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from zoo.data.checks import require


@dataclasses.dataclass(frozen=True)
class Augment:
    """How far each random change may go; the defaults change nothing."""

    flip: bool = False  # Left to right, every second time.
    flip_vertical: bool = False  # Upside down, every second time.
    turns: bool = False  # By 0, 90, 180 or 270 degrees.
    scale: tuple[float, float] = (1.0, 1.0)  # Zoom, log-uniform; below 1/2 it would alias.
    rotate: float = 0.0  # Degrees about the picture's centre, up to this many either way.
    shear: float = 0.0  # Slant: columns a row, up to this many either way.
    shift: float = 0.0  # Moved by up to this share of height and of width either way.
    elastic_sigma: float = 0.0  # Pixels before the zoom; the U-Net paper takes 10 at 512x512.
    brightness: float = 0.0  # Added, up to this share of white either way.
    contrast: float = 0.0  # Distances from `fill` times 1 - contrast .. 1 + contrast.
    saturation: float = 0.0  # Distances from grey times 1 - saturation .. 1 + saturation.
    gain: float = 0.0  # Each channel by a factor of its own, 1 - gain .. 1 + gain.

    def __post_init__(self):
        check = functools.partial(require, self, "data.augment.")
        check(("scale",), "0 < low <= high", lambda v: len(v) == 2 and 0 < v[0] <= v[1])
        check(("rotate", "shear", "shift", "elastic_sigma"), "at least 0", lambda v: v >= 0)
        check(("brightness", "contrast", "saturation", "gain"), "in 0..1", lambda v: 0 <= v <= 1)


def augment(
    image: np.ndarray,
    label: np.ndarray,
    rng: np.random.Generator,
    config: Augment,
    *,
    crop: tuple[int, int] | None,
    ignore_label: int,
    fill: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one changed version of a picture and its label.

    Takes an image [h, w, 1 or 3] uint8, or float32 in the same units 0..255, and a label [h, w]
    uint8. The window `crop` (h', w') is cut or laid at a random place; None keeps [h, w], of turned
    pictures too. Outside the picture lie `ignore_label` and the colour `fill`, [c] in 0..255.
    Returns [h', w', c] and [h', w'] of the dtypes given; they may share memory with the arguments.
    """
    if image.shape[:2] != label.shape:
        got = f"{image.shape} and {label.shape}"
        raise ValueError(f"augment needs an image and a label of one size; got {got}.")
    drawn = draw(label.shape, rng, config, crop=crop, fill=fill)
    if "colours" in drawn:
        changed = cv2.transform(image, drawn["colours"]).reshape(image.shape)
        image = np.clip(changed, 0, 255)  # For float32; uint8 has saturated already.
    image, label = turned(image, drawn), turned(label, drawn)
    window = drawn["rows"].size, drawn["columns"].size
    if drawn["whole"]:
        corner = int(drawn["rows"][0]), int(drawn["columns"][0])
        return _cut(image, corner, window, tuple(fill)), _cut(label, corner, window, ignore_label)
    y, x = places(drawn)
    warp = functools.partial(cv2.remap, map1=x, map2=y, borderMode=cv2.BORDER_CONSTANT)
    image = warp(image, interpolation=cv2.INTER_LINEAR, borderValue=tuple(fill))
    label = warp(label, interpolation=cv2.INTER_NEAREST, borderValue=ignore_label)
    return image.reshape(*window, -1), label  # OpenCV drops a single channel.


def draw(
    shape: tuple[int, int],
    rng: np.random.Generator,
    config: Augment,
    *,
    crop: tuple[int, int] | None,
    fill: Sequence[float],
) -> dict[str, np.ndarray]:
    """All that is random in a changed version of a picture (h, w), for `augment` or a device.

    Returns "turn" [3] int, see `turned`; "rows" [h'] and "columns" [w'], where the window's lie in
    the turned picture, and "whole" [] bool, whether they are its pixels as they stand. Where the
    config asks for it also "colours" [c, c + 1], the affine map of colours; "down" [h', 3] and
    "across" [2, 3, w'] of an elastic, and "affine" [7] of another deformation, see `places`. All
    float32 where nothing else is said.
    """
    drawn, window = {}, shape if crop is None else crop
    if config.brightness or config.contrast or config.saturation or config.gain:
        drawn["colours"] = _colours(rng, config, fill)
    flips = [on and rng.random() < 0.5 for on in (config.flip, config.flip_vertical)]
    drawn["turn"] = np.array([*flips, rng.integers(4) if config.turns else 0])
    shape = shape[::-1] if drawn["turn"][2] % 2 else tuple(shape)

    low, high = config.scale
    zoom = math.exp(rng.uniform(math.log(low), math.log(high)))
    scaled = tuple(max(1, round(side * zoom)) for side in shape)
    spare = [side - wanted for side, wanted in zip(scaled, window, strict=True)]
    corner = [int(rng.integers(min(0, s), max(0, s) + 1)) for s in spare]
    # Pixel i spans i - 1/2 .. i + 1/2.
    drawn["rows"], drawn["columns"] = y, x = [
        (np.arange(first + 0.5, first + count) * (side / total) - 0.5).astype(np.float32)
        for count, first, side, total in zip(window, corner, shape, scaled, strict=True)
    ]
    affine, elastic = config.rotate or config.shear or config.shift, config.elastic_sigma
    drawn["whole"] = np.array(scaled == shape and not affine and not elastic)
    if not drawn["whole"]:
        nodes = rng.normal(0.0, elastic, (2, 3, 3)).astype(np.float32)
        if elastic:
            drawn["down"], drawn["across"] = displacement(nodes, y, x, shape)
    if affine:
        most = math.radians(config.rotate), config.shear, *(config.shift * side for side in shape)
        angle, slant, up, left = rng.uniform(-1, 1, 4) * most
        y, x = ((side - 1) / 2 for side in shape)
        numbers = y + up, x + left, slant, math.sin(angle), math.cos(angle), y, x
        drawn["affine"] = np.array(numbers, np.float32)
    return drawn


def turned(array: np.ndarray, drawn: dict[str, np.ndarray]) -> np.ndarray:
    """A view [h', w', ...] of [h, w, ...], flipped left to right, upside down, and turned."""
    flip, flip_vertical, quarters = drawn["turn"]
    array = array[:, ::-1] if flip else array
    return np.rot90(array[::-1] if flip_vertical else array, quarters)


def places(drawn: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column, both [h', w'], at which a window's pixel lies in the turned picture.

    Shifted, slanted and turned about the centre, then displaced; plain arithmetic for NumPy or JAX.
    """
    y, x = drawn["rows"][:, None], drawn["columns"][None]
    y, x = y + 0 * x, x + 0 * y
    if "affine" in drawn:
        top, left, slant, sin, cos, *centre = drawn["affine"]
        y = y - top
        x = x - left + slant * y
        y, x = cos * y - sin * x + centre[0], sin * y + cos * x + centre[1]
    if "down" in drawn:
        up, left = drawn["down"] @ drawn["across"]
        y, x = up + y, left + x
    return y, x


def displacement(
    nodes: np.ndarray, y: np.ndarray, x: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bicubic interpolation of a grid of vectors that spans a picture.

    Ronneberger, Fischer & Brox, "U-Net", MICCAI 2015, Sec. 3.1: "random displacement vectors on a
    coarse 3 by 3 grid ... per-pixel displacements are then computed using bicubic interpolation".
    The nodes are the centres of 3 x 3 equal fields; beyond the outer ones their value is repeated.
    Takes nodes [2, 3, 3], rows y [n] and columns x [m] in pixels, and (h, w); returns [n, 3] and
    [2, 3, m], whose matrix product are the displacements.
    """
    return _cubic_weights(y, shape[0]), nodes @ _cubic_weights(x, shape[1]).T


def _cubic_weights(place: np.ndarray, side: int) -> np.ndarray:
    """[n, 3], the shares of three nodes: Keys' kernel, a = -3/4 as OpenCV has it."""
    a, nodes = -0.75, np.arange(-2, 5, dtype=place.dtype)  # Two repeated nodes at either end.
    grid = np.clip((place + 0.5) * 3 / side - 0.5, -0.5, 2.5)
    d = np.abs(grid[:, None] - nodes)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    weights = np.where(d <= 1, near, np.where(d < 2, far, 0))
    return np.stack([weights[:, :3].sum(1), weights[:, 3], weights[:, 4:].sum(1)], 1)


def _colours(rng: np.random.Generator, config: Augment, fill: Sequence[float]) -> np.ndarray:
    """Saturation, gain, contrast and brightness, in this order, as one affine map [c, c + 1]."""
    # Plain floats: of arrays as small as these, NumPy's time is all overhead.
    first, second, *gains, last = rng.uniform(-1, 1, len(fill) + 3).tolist()
    contrast, added = 1 + second * config.contrast, 255 * config.brightness * last
    luma = (0.299, 0.587, 0.114) if len(fill) == 3 else (0.0,) * len(fill)  # ITU-R BT.601.
    saturation = 1 + first * config.saturation * (len(fill) == 3)
    rows = []
    for i, gain in enumerate(gains):
        kept = [saturation * (i == j) + (1 - saturation) * share for j, share in enumerate(luma)]
        offset = (1 - contrast) * float(fill[i]) + added
        rows.append([*(contrast * (1 + config.gain * gain) * x for x in kept), offset])
    return np.array(rows, np.float32)


def _cut(pixels: np.ndarray, corner: Sequence[int], window: Sequence[int], fill) -> np.ndarray:
    """The window of `pixels` whose first pixel is `corner`, filled where it reaches outside."""
    (top, left), (height, width), (rows, columns) = corner, window, pixels.shape[:2]
    inner = pixels[max(0, top) : top + height, max(0, left) : left + width]
    beyond = -top, top + height - rows, -left, left + width - columns  # On all four sides.
    if max(beyond) <= 0:
        return inner
    border = np.maximum(beyond, 0).tolist()
    filled = cv2.copyMakeBorder(inner, *border, cv2.BORDER_CONSTANT, value=fill)
    return filled.reshape(*window, *pixels.shape[2:])
