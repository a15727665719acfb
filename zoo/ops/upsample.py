"""Making feature maps larger: every common way but un-pooling (see `pool`)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from zoo.ops.pool import pair
from zoo.ops.resize import resize_logits


def upsample_nearest(x: jax.Array, factor: int) -> jax.Array:
    """Repeats every pixel over a block: [b, h, w, c] -> [b, h * factor, w * factor, c].

    Raises ValueError where x is not of rank 4 or the factor is below 1.

    >>> upsample_nearest(jnp.array([[4, 5], [10, 20]])[None, ..., None], 2)[0, ..., 0].tolist()
    [[4, 4, 5, 5], [4, 4, 5, 5], [10, 10, 20, 20], [10, 10, 20, 20]]
    """
    _check("upsample_nearest", x, factor)
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


def upsample_bilinear(x: jax.Array, factor: int) -> jax.Array:
    """Interpolates between pixel centres: [b, h, w, c] -> [b, h * factor, w * factor, c] float32.

    Centres are half a pixel from the border, where the picture goes on as it ends: PyTorch's
    `align_corners=False`, Keras' `UpSampling2D`. Raises ValueError as `upsample_nearest`.

    >>> upsample_bilinear(jnp.array([[10, 20], [30, 40]])[None, ..., None], 2)[0, 0, :, 0].tolist()
    [10.0, 12.5, 17.5, 20.0]
    """
    _check("upsample_bilinear", x, factor)
    return resize_logits(x, (x.shape[1] * factor, x.shape[2] * factor))


def bilinear_at(image: jax.Array, points: jax.Array) -> jax.Array:
    """A picture's value between its pixels, of the four around weighed by nearness.

    Args:
        image: [h, w] or [h, w, c]; pixel (0, 0) has its centre at the point (0, 0).
        points: [..., 2] float, (row, column); outside, the nearest point of the border counts.

    Returns:
        [...] or [..., c] float32. Raises ValueError for other shapes.

    >>> image = jnp.zeros((23, 23)).at[20:22, 14:16].set(jnp.array([[91, 210], [162, 95]]))
    >>> round(float(bilinear_at(image, jnp.array([20.2, 14.5]))), 3)
    146.1
    """
    if image.ndim not in (2, 3) or 0 in image.shape or points.shape[-1:] != (2,):
        got = f"{image.shape} and {points.shape}"
        raise ValueError(f"bilinear_at takes [h, w] or [h, w, c] and points [..., 2]; got {got}.")
    image, points = (jnp.asarray(x, jnp.float32) for x in (image, points))
    at = jnp.moveaxis(jnp.clip(points, -1, np.array(image.shape[:2])), -1, 0)  # Infinite: nan.
    read = functools.partial(map_coordinates, coordinates=at, order=1, mode="nearest")
    return read(image) if image.ndim == 2 else jax.vmap(read, -1, -1)(image)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int],
    padding: str | int | Sequence[int],
    output_padding: int | Sequence[int] | None = None,
    *,
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """Lays a copy of the kernel, weighted by the pixel, for every pixel; where copies meet, sums.

    Copies stand `strides` apart, so with k' = (k - 1) * dilation + 1 a side is
    (h - 1) * stride + k' long. Padding p cuts p off both ends, and the output padding adds as much
    at the bottom and the right: PyTorch's `conv_transpose2d`. "VALID" cuts nothing, and "SAME" what
    makes the side h * stride or, with an output padding, (h - 1) * stride + k' % 2 + that: Keras'
    `Conv2DTranspose`. It is the gradient of a convolution by its input: Dumoulin & Visin, "A guide
    to convolution arithmetic for deep learning", arXiv:1603.07285, Ch. 4.

    Args:
        x: [b, h, w, c] float.
        kernel: [kh, kw, out, c] float.
        strides, dilation: at least 1, for rows and columns, or one for both; so are the paddings.
        padding: "VALID", "SAME", or how much is cut, >= 0.
        output_padding: below the stride or, with explicit padding, below stride or dilation. None
            is 0, but as Keras has it for "SAME", see above, and "VALID": max(stride - k', 0).

    Returns:
        [b, h', w', out] of x's dtype.

    Raises:
        ValueError: a shape or number is impossible; of output paddings the legal ones are named.

    >>> x, kernel = jnp.array([1.0, 2.0])[None, None, :, None], jnp.array([1.0, 10.0, 100.0])
    >>> conv_transpose(x, kernel[None, :, None, None], (1, 2), "VALID")[0, 0, :, 0].tolist()
    [1.0, 10.0, 102.0, 20.0, 200.0]
    """
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[3] != x.shape[3]:
        got = f"{x.shape} and {kernel.shape}"
        raise ValueError(f"conv_transpose takes [b, h, w, c] and [kh, kw, out, c]; got {got}.")
    if not all(jnp.issubdtype(a.dtype, jnp.floating) for a in (x, kernel)):
        raise ValueError(f"conv_transpose takes floats; got {x.dtype} and {kernel.dtype}.")
    strides, dilation = pair("strides", strides, 1), pair("dilation", dilation, 1)
    named = isinstance(padding, str)
    if named and padding not in ("SAME", "VALID"):
        raise ValueError(f'padding must be "SAME", "VALID" or numbers; got {padding!r}.')
    cut = (padding, padding) if named else pair("padding", padding, 0)
    more = (None, None) if output_padding is None else pair("output_padding", output_padding, 0)
    sides = zip(x.shape[1:3], kernel.shape, strides, dilation, cut, more, strict=False)
    pads = [_ends(*side) for side in sides]
    # All of every copy, then cut: XLA on CPU aborts the process where an end is shorter than that
    # (kernel 2, stride 2, padding 1 beside kernel 4, stride 3, padding 2; jax 0.10.2).
    whole = [(k - 1) * d for k, d in zip(kernel.shape, dilation, strict=False)]
    near = all(s <= k <= 2 * s for k, s in zip(kernel.shape, strides, strict=False))
    if near and dilation == (1, 1) and all(p[1] <= k for p, k in zip(pads, whole, strict=True)):
        x = _tiles(x, kernel, strides)
    else:
        x = jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1].astype(x.dtype),
            window_strides=(1, 1),
            padding=[(end, max(end, after)) for end, (_, after) in zip(whole, pads, strict=True)],
            lhs_dilation=strides,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWOI", "NHWC"),
        )
    rows, columns = (
        slice(end - before, n - max(end - after, 0))
        for n, end, (before, after) in zip(x.shape[1:3], whole, pads, strict=True)
    )
    return x[:, rows, columns]


def _ends(n: int, k: int, stride: int, dilation: int, cut: int | str, more: int | None):
    """Zeros before and after a side, among whose n entries stand stride - 1 more, convolved."""
    k = (k - 1) * dilation + 1
    most = stride if isinstance(cut, str) else max(stride, dilation)
    if more is not None and more >= most:
        legal = ", ".join(map(str, range(most)))
        raise ValueError(f"output_padding {more} is impossible here; legal are {legal}.")
    if cut == "SAME":
        both = k + stride - 2 if more is None else k + k % 2 - 2 + more
        if (n - 1) * stride + both < k - 1:
            raise ValueError(f"output_padding {more} leaves no pixel of {n}; take more.")
        before = min(-(-both // 2), k - 1)
        return before, both - before
    if cut == "VALID":
        cut, more = 0, max(stride - k, 0) if more is None else more
    length = (n - 1) * stride + k - 2 * cut + (more or 0)
    if length < 1:
        raise ValueError(f"padding {cut} leaves {length} of {length + 2 * cut} px; take less.")
    return k - 1 - cut, k - 1 - cut + (more or 0)


def _tiles(x: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """Copies of one to two strides: each tile is a dense layer of the pixels whose copies meet.

    The zeros between pixels cost XLA most: of 7x7x21 to 224 px (stride 32, kernel 64), value and
    gradients take a tenth of the convolution's processor time (CPU, jax 0.10.2).
    """
    (kh, kw, out, c), (sh, sw) = kernel.shape, strides
    m, n = -(-kh // sh), -(-kw // sw)
    beyond = m * sh - kh, n * sw - kw
    kernel = jnp.pad(kernel, ((0, beyond[0]), (0, beyond[1]), (0, 0), (0, 0)))
    x = jnp.pad(x, ((0, 0), (m - 1, m - 1), (n - 1, n - 1), (0, 0)))
    b, h, w = x.shape[0], x.shape[1] - m + 1, x.shape[2] - n + 1
    near = jnp.concatenate([x[:, i : i + h, j : j + w] for i in range(m) for j in range(n)], -1)
    # Of two pixels the first has the last half of its copy in the tile.
    kernel = kernel.reshape(m, sh, n, sw, out, c)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    # Flat: XLA on CPU takes three times as long for the kernel's gradient of a product over axes.
    x = near.reshape(b * h * w, -1) @ kernel.reshape(m * n * c, -1).astype(x.dtype)
    x = x.reshape(b, h, w, sh, sw, out).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * sh, w * sw, out)[:, : h * sh - beyond[0], : w * sw - beyond[1]]


def _check(name: str, x: jax.Array, factor: int) -> None:
    if x.ndim != 4 or not isinstance(factor, int | np.integer) or factor < 1:
        takes = "takes [b, h, w, c] and a whole factor >= 1"
        raise ValueError(f"{name} {takes}; got {x.shape}, {factor}.")
