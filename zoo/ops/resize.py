"""Logits of one size read at another, to score and show a resized picture at its own."""

import jax
import jax.numpy as jnp
import numpy as np


def resize_logits(
    logits: jax.Array, size: tuple[int, int], *, rows: tuple[int, int] | None = None
) -> jax.Array:
    """Bilinear interpolation between pixel centres, without antialiasing.

    As `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` and OpenCV's
    INTER_LINEAR. Two neighbours are gathered and weighed, so no matrix product can lose digits to
    bfloat16 on an accelerator. Raises ValueError for another rank, a size below 1, or rows outside.

    Args:
        logits: [b, h, w, k].
        size: (H, W), each >= 1.
        rows: only rows start..stop - 1 of the H, so that a large result can be made in strips.

    Returns:
        [b, H, W, k] float32, or [b, stop - start, W, k].
    """
    start, stop = rows or (0, size[0])
    if logits.ndim != 4 or min(size) < 1 or not 0 <= start <= stop <= size[0]:
        wanted = "logits [b, h, w, k], a size of at least 1x1 and rows within it"
        raise ValueError(f"resize_logits needs {wanted}; got {logits.shape}, {size}, {rows}.")
    x = _interpolate(logits.astype(jnp.float32), 1, size[0], np.arange(start, stop))
    return _interpolate(x, 2, size[1], np.arange(size[1]))


def _interpolate(x: jax.Array, axis: int, size: int, index: np.ndarray) -> jax.Array:
    """Reads `x` along an axis as if it had `size` entries, at the entries `index`."""
    n = x.shape[axis]
    if n == size and len(index) == n:
        return x
    # (index + 0.5) * n / size - 0.5, over 2 * size and in integers: no rounding moves a pixel.
    position = np.maximum((2 * index + 1) * n - size, 0)
    low = np.minimum(position // (2 * size), n - 1)
    share = (position % (2 * size) / (2 * size)).astype(np.float32)
    share = np.expand_dims(share, [other for other in range(x.ndim) if other != axis])
    high = np.minimum(low + 1, n - 1)
    return jnp.take(x, low, axis) * (1 - share) + jnp.take(x, high, axis) * share
