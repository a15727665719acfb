"""Pictures as histograms of the directions in which their brightness changes."""

import jax
import jax.numpy as jnp
import numpy as np

from zoo.ops.distance import safe_sqrt


def oriented_gradients(image: jax.Array, *, bins: int = 8, cell: int = 8) -> jax.Array:
    """Histograms of gradient orientations over cells: what light and small shifts leave alike.

    Dalal & Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005: central
    differences, unsigned angles, both shared linearly between neighbouring cells and bins, and the
    root of the share of the whole (Sec. 6.4, "L1-sqrt"); departing from it, the block is the whole
    picture, whose border repeats outside, and each channel has its own histograms.

    Args:
        image: [b, h, w, c] float, squares of differences within float32's range; what is added or
            multiplied to all of it changes nothing.
        bins: of the angles 0..180 degrees, the first around 0: a change from left to right.
        cell: pixels of a cell's side; the last ones may reach outside.

    Raises ValueError for another rank, fewer than two bins or a cell without a pixel.

    Returns:
        [b, ceil(h / cell), ceil(w / cell), c * bins] float32 >= 0; zeros for a picture of one grey.
    """
    if image.ndim != 4 or bins < 2 or cell < 1:
        wanted = "[b, h, w, c], bins >= 2 and cell >= 1"
        raise ValueError(f"oriented_gradients needs {wanted}; got {image.shape}, {bins}, {cell}.")
    x = jnp.pad(image.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    dy, dx = x[:, 2:, 1:-1] - x[:, :-2, 1:-1], x[:, 1:-1, 2:] - x[:, 1:-1, :-2]
    length = safe_sqrt(jnp.square(dx) + jnp.square(dy))
    # Masked before: at 0 the gradient of an angle is nan.
    angle = jnp.arctan2(dy, jnp.where(length > 0, dx, 1.0)) * (bins / jnp.pi)
    apart = jnp.abs((angle[..., None] - jnp.arange(bins) + bins / 2) % bins - bins / 2)
    x = length[..., None] * jnp.maximum(1 - apart, 0)
    rows, columns = (_shares(side, cell) for side in image.shape[1:3])
    x = jnp.einsum("ph,bhwck,qw->bpqck", rows, x, columns, precision=jax.lax.Precision.HIGHEST)
    total = x.sum((1, 2, 3, 4), keepdims=True)
    return safe_sqrt(x / jnp.where(total > 0, total, 1.0)).reshape(*x.shape[:3], -1)


def _shares(side: int, cell: int) -> np.ndarray:
    """[cells, side], how much of a pixel is each cell's: linear between their centres."""
    place = (np.arange(side, dtype=np.float32) + 0.5) / cell
    centre = np.arange(-(-side // cell), dtype=np.float32)[:, None] + 0.5
    return np.maximum(1 - np.abs(place - centre), 0)
