"""Cutting the middle out."""

import jax


def centre_crop(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """[b, h, w, ...] -> its middle [b, *size, ...]; an odd surplus is cut at bottom and right.

    Unpadded convolutions reach that alone. Raises ValueError where x is smaller than `size`.
    """
    top, left = x.shape[1] - size[0], x.shape[2] - size[1]
    if top < 0 or left < 0:
        raise ValueError(f"centre_crop cannot cut {tuple(size)} out of {x.shape[1:3]}.")
    return x[:, top // 2 : top // 2 + size[0], left // 2 : left // 2 + size[1]]
