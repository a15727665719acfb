"""Making feature maps smaller, and back to where the maxima stood."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from zoo.ops.labels import seen


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Largest of each 2x2 block: [b, h, w, c] -> [b, h / 2, w / 2, c].

    The values of `nn.max_pool(x, (2, 2), (2, 2))`. Equal maxima share the gradient, which the first
    has there; behind a ReLU they are zeros without one. ValueError: another rank, or an odd side.
    """
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"max_pool_2x2 takes [b, h, w, c] with h and w even; got {x.shape}.")
    b, h, w, c = x.shape
    # On CPU an eighth of the time of `nn.max_pool`, whose gradient is a slow select-and-scatter.
    x = x.reshape(b, h // 2, 2, w, c)
    x = _larger(x[:, :, 0], x[:, :, 1])
    x = x.reshape(b, h // 2, w // 2, 2, c)
    return _larger(x[:, :, :, 0], x[:, :, :, 1])


def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    # The gradient of `jnp.maximum` goes to what equals the result (before jax 0.11.2). Where XLA
    # computes an operand twice, rounded apart, nothing does: it is lost (jax-ml/jax#40564).
    return jnp.where(a > b, a, jnp.where(a < b, b, a / 2 + b / 2))


def max_pool(x: jax.Array, window: int, stride: int, dilation: int) -> jax.Array:
    """The largest of each square window, of every `dilation`-th pixel: PyTorch's `max_pool2d`.

    [b, h, w, c] -> [b, h', w', c], h' = (h - (window - 1) * dilation - 1) // stride + 1. Equal
    maxima share the gradient, two at a time: of three 1/4, 1/4, 1/2. ValueError where none fits.
    """
    reach = (window - 1) * dilation
    if x.ndim != 4 or min(window, stride, dilation) < 1 or any(n <= reach for n in x.shape[1:3]):
        got = f"{x.shape}, window {window}, stride {stride}, dilation {dilation}"
        raise ValueError(f"max_pool takes [b, h, w, c] >= the window; got {got}.")
    for axis in (1, 2):
        starts, n = range(0, reach + 1, dilation), x.shape[axis] - reach
        parts = [jax.lax.slice_in_dim(x, i, i + n, stride, axis) for i in starts]
        x = functools.reduce(_larger, parts)
    return x


def max_pool_with_indices(
    x: jax.Array, window: int | Sequence[int], strides: int | Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """The largest of each window and its place: PyTorch's `max_pool2d(return_indices=True)`.

    Of equal maxima the first one counts, and has the gradient; rows and columns that fill no window
    are left out. Raises ValueError where a window does not fit, or a number is below 1.

    Args:
        x: [b, h, w, c] float.
        window, strides: at least 1, (rows, columns) or one for both.

    Returns:
        pooled: [b, h', w', c], h' = (h - window) // stride + 1.
        indices: [b, h', w', c] int32, y * w + x of each maximum in the map of its channel.

    >>> x = jnp.array([[1.0, 4, 3, 1], [2, 3, 5, 2], [10, 9, 2, 3], [7, 3, 4, 20]])[None, ..., None]
    >>> pooled, indices = max_pool_with_indices(x, (2, 2), (2, 2))
    >>> pooled[0, ..., 0].tolist(), indices[0, ..., 0].tolist()
    ([[4.0, 5.0], [10.0, 20.0]], [[1, 6], [8, 15]])
    """
    (kh, kw), (sh, sw) = pair("window", window, 1), pair("strides", strides, 1)
    if x.ndim != 4 or kh > x.shape[1] or kw > x.shape[2]:
        got = f"{x.shape}, window {(kh, kw)} and strides {(sh, sw)}"
        raise ValueError(f"max_pool_with_indices takes [b, h, w, c] >= the window; got {got}.")
    _, h, w, _ = x.shape
    places = jnp.arange(h * w, dtype=jnp.int32).reshape(1, h, w, 1)
    rows, columns = (h - kh) // sh + 1, (w - kw) // sw + 1
    pooled = indices = None
    for i in range(kh):
        for j in range(kw):
            part = (slice(None), slice(i, i + sh * rows - sh + 1, sh))
            part += (slice(j, j + sw * columns - sw + 1, sw),)
            value, place = x[part], jnp.broadcast_to(places[part], x[part].shape)
            if pooled is None:
                pooled, indices = value, place
                continue
            larger = (value > pooled) | jnp.isnan(value)
            pooled, indices = jnp.where(larger, value, pooled), jnp.where(larger, place, indices)
    return pooled, indices


def max_unpool(pooled: jax.Array, indices: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Puts maxima back where they stood, among zeros: PyTorch's `max_unpool2d`.

    Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, Sec. 2.1.
    The gradient of a value is that of its place. Of windows that overlap and share a maximum, the
    place holds it once. Raises ValueError for other shapes, `shape` below h', w', and an index
    outside it, where it can be seen; under `jit` such a value is dropped.

    Args:
        pooled, indices: [b, h', w', c], as `max_pool_with_indices` gives; reverse mode only.
        shape: (h, w) of the map that was pooled.

    Returns:
        [b, h, w, c].

    >>> pooled, indices = jnp.array([[4.0, 5], [10, 20]]), jnp.array([[1, 6], [8, 15]])
    >>> max_unpool(pooled[None, ..., None], indices[None, ..., None], (4, 4))[0, ..., 0].tolist()
    [[0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0], [10.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 20.0]]
    """
    h, w = shape
    integers = jnp.issubdtype(indices.dtype, jnp.integer)
    if pooled.ndim != 4 or indices.shape != pooled.shape or not integers:
        got = f"{pooled.shape} and {indices.dtype} {indices.shape}"
        raise ValueError(f"max_unpool takes [b, h, w, c] and integers of that shape; got {got}.")
    if h < pooled.shape[1] or w < pooled.shape[2]:
        got = f"{(h, w)} from {pooled.shape[1:3]}"
        raise ValueError(f"max_unpool makes a map larger, never smaller; got {got}.")
    if (places := seen(indices)) is not None and places.size:
        low, high = places.min(), places.max()
        if low < 0 or high >= h * w:
            raise ValueError(f"indices must be in 0..{h * w - 1} for {(h, w)}; got {low}..{high}.")
    return _unpool(pooled, jnp.asarray(indices, jnp.int32), h, w)


# Its own gradient: that of a scatter would leave which of two equal places has it to chance.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _unpool(pooled: jax.Array, indices: jax.Array, h: int, w: int) -> jax.Array:
    b, rows, columns, c = pooled.shape
    values, places = (a.reshape(b, rows * columns, c) for a in (pooled, indices))
    places = jnp.where(places < 0, h * w, places)  # Dropped, not counted from the end.
    at = jnp.arange(b)[:, None, None], places, jnp.arange(c)
    flat = jnp.zeros((b, h * w, c), pooled.dtype).at[at].set(values, mode="drop")
    return flat.reshape(b, h, w, c)


def _gather(h: int, w: int, indices: jax.Array, g: jax.Array):
    b, _, _, c = g.shape
    inside = (indices >= 0) & (indices < h * w)
    places = jnp.where(inside, indices, 0).reshape(b, math.prod(indices.shape[1:3]), c)
    values = jnp.take_along_axis(g.reshape(b, h * w, c), places, axis=1).reshape(indices.shape)
    return jnp.where(inside, values, 0), None


_unpool.defvjp(lambda pooled, indices, h, w: (_unpool(pooled, indices, h, w), indices), _gather)


def pair(name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    """One whole number for both sides, or two; ValueError for others."""
    both = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(both) != 2 or any(not isinstance(n, int | np.integer) or n < least for n in both):
        raise ValueError(f"{name} must be a whole number or two, at least {least}; got {value}.")
    return both
