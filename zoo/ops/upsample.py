"""Making feature maps larger."""

import jax


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """Spreads channels over blocks: [b, h, w, f * f * c] -> [b, h * f, w * f, c], f = `factor`.

    The sub-pixel rearrangement of Shi et al., "Real-Time Single Image and Video Super-Resolution
    Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016, Eq. 4, with the channels
    ordered (row, column, c) as in `tf.nn.depth_to_space`. Raises ValueError where `factor` is below
    1, x is not of rank 4, or its channels do not divide by factor * factor.
    """
    if x.ndim != 4 or factor < 1 or x.shape[-1] % (factor * factor):
        raise ValueError(
            f"depth_to_space(factor={factor}) takes [b, h, w, c] with c a multiple of "
            f"{factor * factor}; got {x.shape}."
        )
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * factor, w * factor, c // factor**2)
