"""From a picture of any size to a class id for every pixel.

Everything before the argmax is linear in the logits: windows are blended, mirror images averaged
and resized pictures brought back as logits, not as probabilities. So the order does not matter, and
evaluation's argmax of resized logits is the case of one window and no mirroring.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.data.images import Preprocess
from zoo.infer.tiles import TILE, Blend, Geometry, plan
from zoo.ops.resize import resize_logits
from zoo.train.parallel import Layout

Variables = Mapping[str, Any]  # What a model is applied with.
_STRIP = 2**22  # Of a strip of logits at the picture's size: 16 MiB of float32.


def predict(
    model: nn.Module,
    variables: Variables,
    image: np.ndarray,
    *,
    preprocess: Preprocess,
    tile: int | None = TILE,
    overlap: int | None = None,
    blend: Blend = "cosine",
    flips: bool = False,
    layout: Layout | None = None,
) -> np.ndarray:
    """Class ids [h, w] int32 of a picture, as evaluation would score them; [b, h, w] of several.

    The picture is [h, w, c] uint8, as `read_image` gives it, or [b, h, w, c]; the model any of
    zoo.models; its variables are on the device already if they are used often. A picture with both
    sides up to `tile` is one call of the model at its own size; JAX compiles once for each. Larger
    ones go through in tiles of one shape (`tile`, `overlap` and `blend` are those of
    `zoo.infer.tiles.plan`) and need memory for a strip of tiles' logits. The default overlap makes
    the result that of the whole picture if half a tile is enough for it; less is faster. Where
    `preprocess` resizes, the model sees the whole picture at that size, as in training; one that
    normalises by a picture's own statistics (FCDenseNet's "batch") sees it whole at any size.
    `flips` averages with the prediction of the left-right mirror image, in twice the time. With a
    `layout` of several devices there are no tiles: each device has a share of the picture's rows,
    and the result is that of the whole picture (see `Layout.by_rows`). Raises ValueError for a
    picture of another type, shape or channels, and for an impossible tile or overlap.
    """
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or 0 in image.shape:
        got = f"{image.dtype} {image.shape}"
        raise ValueError(f"predict takes a picture [h, w, c] uint8, as of read_image; got {got}.")
    x = np.stack([preprocess(one) for one in image]) if image.ndim == 4 else preprocess(image)
    ids = np.empty(image.shape[:-1], np.int32)
    if preprocess.size is None:
        options = {"overlap": overlap, "blend": blend, "flips": flips, "layout": layout}
        tile = tile if layout is None else None
        strips = logit_strips(model, variables, x, tile=tile, **options)
    else:
        logits = predict_logits(model, variables, x, tile=None, flips=flips, layout=layout)
        strips = _resized_strips(logits, ids.shape[-2:])
    for top, logits in strips:
        ids[..., top : top + logits.shape[-3], :] = logits.argmax(-1)
    return ids


def predict_logits(model: nn.Module, variables: Variables, x: np.ndarray, **options) -> np.ndarray:
    """Logits [(b,) h, w, k] float32 of prepared pictures [(b,) h, w, c], as `logit_strips`."""
    strips = logit_strips(model, variables, x, **options)
    return np.concatenate([logits for _, logits in strips], axis=-3)


def logit_strips(
    model: nn.Module,
    variables: Variables,
    x: np.ndarray,
    *,
    flips: bool = False,
    layout: Layout | None = None,
    **tiling: Any,
) -> Iterator[tuple[int, np.ndarray]]:
    """First row and logits [(b,) rows, w, k] float32 of strips that no tile below can change.

    The border is padded with zeros, the mean colour, as models with padding "SAME" do themselves.
    For those with "VALID" the picture is mirrored, the overlap-tile strategy of the U-Net paper.
    Takes x [h, w, c] or [b, h, w, c] float32, normalised, and as `tiling` what
    `zoo.infer.tiles.plan` does; the devices of a `layout` share the rows of each window.
    """
    variables = jax.device_put(variables)
    if getattr(model, "whole", False):
        tiling["tile"] = None  # No tile's logits would be its picture's.
    known = geometry(model, x.shape[-1])
    *batch, height, width, _ = x.shape
    rows, columns = (plan(side, known, **tiling) for side in (height, width))
    padding = ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0))
    x = np.pad(x, padding[-x.ndim :], mode="reflect" if known.margin else "constant")
    logits_of = _program(model, flips, layout)
    # What the tiles above have added to this strip.
    begun = np.zeros((*batch, 0, width, 1), np.float32)
    ends = (*rows.outputs[1:], height)
    across = list(zip(columns.starts, columns.outputs, columns.weights, strict=True))
    for top, at, end, weights in zip(rows.starts, rows.outputs, ends, rows.weights, strict=True):
        strip = None
        for left, to, column_weights in across:
            window = x[..., top : top + rows.window, left : left + columns.window, :]
            logits = np.asarray(logits_of(variables, window if batch else window[None]))
            logits = logits.reshape(*batch, *logits.shape[1:])[..., : len(weights), :, :]
            if strip is None:
                strip = np.zeros((*logits.shape[:-2], width, logits.shape[-1]), np.float32)
                strip[..., : begun.shape[-3], :, :] = begun
            first, stop = max(-to, 0), min(width - to, len(column_weights))
            logits = logits[..., first:stop, :] * column_weights[first:stop, None]
            strip[..., to + first : to + stop, :] += logits * weights[:, None, None]
        yield max(at, 0), strip[..., max(-at, 0) : end - at, :, :]
        begun = strip[..., end - at :, :, :]


def check_tiling(
    model: nn.Module, channels: int, *, tile: int | None = TILE, overlap: int | None = None
) -> None:
    """Raises ValueError where a tile and an overlap do not fit a model."""
    if tile is not None:
        plan(2 * tile, geometry(model, channels), tile=tile, overlap=overlap)


@functools.lru_cache(maxsize=16)  # What is compiled is kept with the function.
def _program(model: nn.Module, flips: bool, layout: Layout | None) -> Callable:
    def logits_of(variables: Variables, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h', w', k] float32, averaged with the mirror image's if asked."""
        logits = model.apply(variables, x).astype(jnp.float32)
        if flips:
            mirrored = model.apply(variables, x[:, :, ::-1]).astype(jnp.float32)
            logits = (logits + mirrored[:, :, ::-1]) / 2
        return logits

    return jax.jit(logits_of) if layout is None else layout.by_rows(logits_of)


@functools.lru_cache(maxsize=16)  # The model is traced, which takes as long as a small picture.
def geometry(model: nn.Module, channels: int) -> Geometry:
    """What windows must know; the model's own ValueError where there is no side that it takes."""
    start = 2 * model.halo + model.stride  # Leaves something, whatever the margin.
    for side in range(start, start + model.stride):
        image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
        try:  # A model that takes few sides only is asked which.
            logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
            return Geometry(model.stride, model.halo, (side - logits.shape[1]) // 2, side)
        except ValueError as error:
            refusal = error
    raise refusal


def _resized_strips(logits: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Brings logits [(b,) h, w, k] to a picture's size, a strip at a time."""
    *batch, height, width, classes = logits.shape
    rows = max(_STRIP // (size[1] * classes), 1)
    logits = jnp.asarray(logits.reshape(-1, height, width, classes))
    for top in range(0, size[0], rows):
        strip = np.asarray(resize_logits(logits, size, rows=(top, min(top + rows, size[0]))))
        yield top, strip.reshape(*batch, *strip.shape[1:])
