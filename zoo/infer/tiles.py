"""Where windows lie on a picture, and how much each counts where they overlap.

One side of a picture is planned at a time; a window's weight is the product of its sides'. Windows
begin at multiples of the model's stride, as the whole picture does: poolings keep their phase.
"""

import dataclasses
from typing import Literal

import numpy as np

Blend = Literal["cosine", "linear"]
TILE = 512


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What windows must know of a model. All in pixels."""

    stride: int  # Shifting the input by this much shifts the output alike.
    halo: int  # How far an output pixel can see.
    margin: int = 0  # What unpadded convolutions take off each end of a window.
    legal: int = 0  # A side the model takes; with a margin, others differ by strides.


@dataclasses.dataclass(frozen=True)
class Side:
    """The windows along one side of a picture."""

    window: int  # Input pixels of each window.
    before: int  # Pixels to add before the picture ...
    after: int  # ... and behind, so that the last window ends with them.
    starts: tuple[int, ...]  # Of each window, in the padded picture.
    outputs: tuple[int, ...]  # Of each window's output, in the picture; the first may be < 0.
    weights: np.ndarray  # [windows, outputs of one] float32; they sum to 1 at every pixel.


def plan(
    size: int,
    geometry: Geometry,
    *,
    tile: int | None = TILE,
    overlap: int | None = None,
    blend: Blend = "cosine",
) -> Side:
    """Covers `size` pixels by windows of at most `tile`.

    A side up to `tile`, or any where `tile` is None, is one window of the side's own length.
    `overlap` is what neighbours share at least; None is 2 * halo, or half a tile where that is
    less. It is rounded up so that windows begin at multiples of the stride. With 2 * halo or more
    the pixels of each window that its cut border could reach weigh nothing, and the result is that
    of the whole side; with less they fade over the whole overlap, as "cosine" or "linear". Raises
    ValueError where tile and overlap leave no room, or tile is no multiple of the stride.
    """
    stride, margin = geometry.stride, geometry.margin
    before = _up(margin, stride)
    need = before + size + margin
    whole = geometry.legal + _up(need - geometry.legal, stride) if margin else size
    window = whole if tile is None else min(whole, _largest(tile, geometry))
    out = window - 2 * margin
    halo = 0 if margin else geometry.halo  # Unpadded, no border reaches the output.
    overlap = min(2 * halo, out // 2) if overlap is None else overlap
    step = (out - overlap) // stride * stride
    if window < whole and not (0 <= overlap <= out // 2 and step > 0):
        problem = f"An overlap of {overlap} does not fit tiles of {window} px that predict {out} px"
        needs = f"it must be in 0..{out // 2} and leave {stride} px"
        raise ValueError(f"{problem}: {needs}; give such an overlap, or a larger tile.")
    last = max(_up(need - window, stride), 0)
    starts = (*range(0, last, step), last) if last else (0,)
    outputs = tuple(start - before + margin for start in starts)
    weights = _weights(size, outputs, _fade(out, out - step, halo, blend))
    return Side(window, before, last + window - before - size, starts, outputs, weights)


def _up(n: int, stride: int) -> int:
    """The multiple of `stride` that is n or next above."""
    return -(-n // stride) * stride


def _largest(tile: int, geometry: Geometry) -> int:
    """The largest window of at most `tile` px: itself, or a side that the model takes."""
    stride, lost = geometry.stride, 2 * geometry.margin
    if lost:
        tile -= (tile - geometry.legal) % stride
        if tile < lost + stride:
            needs = f"this model takes {lost} px off it and needs {lost + stride} or more"
            raise ValueError(f"A tile of {tile} px is too small: {needs}.")
    elif tile < 2 * stride or tile % stride:
        needs = f"this model needs multiples of {stride}, at least {2 * stride}"
        near = max(_up(tile, stride), 2 * stride)
        raise ValueError(f"Tiles of {tile} px do not fit: {needs}; the next is {near}.")
    return tile


def _fade(out: int, overlap: int, halo: int, blend: Blend) -> np.ndarray:
    """[out] float64, weights that rise from 0 over the overlap at a window's beginning."""
    blind = halo if overlap >= 2 * halo else 0
    share = np.clip((np.arange(out) + 0.5 - blind) / max(overlap - 2 * blind, 1), 0, 1)
    if blend == "cosine":
        return (1 - np.cos(np.pi * share)) / 2
    if blend == "linear":
        return share
    raise ValueError(f"blend must be 'cosine' or 'linear'; got {blend!r}.")


def _weights(size: int, outputs: tuple[int, ...], fade: np.ndarray) -> np.ndarray:
    """[windows, len(fade)] float32, fading at inner ends only and summing to 1 at every pixel."""
    weights = np.ones((len(outputs), len(fade)))
    weights[1:] *= fade
    weights[:-1] *= fade[::-1]
    places = np.array(outputs)[:, None] + np.arange(len(fade))
    inside = (places >= 0) & (places < size)
    total = np.zeros(size)
    np.add.at(total, places[inside], weights[inside])
    return np.where(inside, weights / total[np.clip(places, 0, size - 1)], 0).astype(np.float32)
