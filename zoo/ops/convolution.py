"""A convolution whose gradient by the kernel is fast on large maps, on CPU too.

XLA's CPU backend writes that gradient with a window of the whole map. What stands here, a product
of matrices for each block of rows, takes a tenth to a half of it (experiments/bench/NOTES.md).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

_NAMES = ("NHWC", "HWIO", "NHWC")
_BLOCK = 512  # Pixels of a block, of all images together: it stays in the cache.
_OLD = jax.__version_info__ < (0, 10)  # 0.7.2 fails to read a choice by platform backwards.
_FLIPS = 2**20  # Numbers of a kernel, below which flipping it takes next to no time.
_PAYS = 2**21  # Products at a place of the kernel, below which compiling costs more than it saves.


def convolution(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated`; on CPU the gradient by the kernel by blocks if that is fast,
    and that by the image from flipped maps where the kernel is larger than they.

    Blocks are summed in float32. Differentiates in any mode and as often as one likes. Before JAX
    0.10 both are XLA's in any case. A kernel larger than the map, as FCN's on a small
    picture, is one product of matrices: XLA on CPU takes up to 80 times as long.
    """
    plain = _plain(x, kernel, strides, options)
    larger = plain and any(k > n for k, n in zip(kernel.shape[:2], x.shape[1:3], strict=True))
    if not larger and not (plain and (_gains(x, kernel) or _heavy(x, kernel))):
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return (_at_once if larger else _convolution)(x, kernel, tuple(map(tuple, padding)))


def _plain(x: jax.Array, kernel: jax.Array, strides, options: dict) -> bool:
    """Whether it is all that the ways below can do: NHWC, a known size, stride and dilation 1."""
    if x.ndim != 4 or tuple(strides) != (1, 1) or not all(isinstance(n, int) for n in x.shape):
        return False
    others = (v for k, v in options.items() if k != "dimension_numbers")
    names = options.get("dimension_numbers"), _NAMES
    specs = {lax.conv_dimension_numbers(x.shape, kernel.shape, n) for n in names}
    return all(v in (None, 1, (1, 1)) for v in others) and len(specs) == 1


def _gains(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether the gradient by the kernel is faster by blocks than XLA's own (measured)."""
    (b, h, w, c), (kh, kw, _, out) = x.shape, kernel.shape
    if _OLD or x.dtype not in (jnp.float32, jnp.bfloat16) or kh * kw > 9:
        return False
    # XLA's gains by more images, this one where less comes out than in.
    return b * h * w * c * out >= _PAYS and b * out <= 2 * c


def _heavy(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether flipping the kernel takes longer than flipping what goes in and comes out."""
    (b, h, w, c), (kh, kw, _, out) = x.shape, kernel.shape
    return not _OLD and kh * kw > 1 and kernel.size > max(b * h * w * (c + out), _FLIPS)


def _at_once(x: jax.Array, kernel: jax.Array, pads: tuple) -> jax.Array:
    """All places of the kernel side by side as channels."""
    x, (kh, kw, _, out) = jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel.shape
    h, w = max(0, x.shape[1] - kh + 1), max(0, x.shape[2] - kw + 1)
    near = [x[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(near, axis=-1) @ kernel.reshape(-1, out)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, kernel: jax.Array, pads: tuple) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_NAMES)


@_convolution.defjvp
def _tangent(pads: tuple, primals: tuple, tangents: tuple) -> tuple:
    (x, kernel), (dx, dkernel) = primals, tangents
    plain, blocks = (functools.partial(f, pads=pads) for f in (_convolution.fun, _by_blocks))
    # Linear in dkernel: JAX reads it backwards for the gradient. Only x is kept until then.
    by_kernel = jax.checkpoint(blocks) if _gains(x, kernel) else plain
    by_image = functools.partial(_flipped, pads=pads) if _heavy(x, kernel) else plain
    of_kernel = lax.platform_dependent(x, dkernel, cpu=by_kernel, default=plain)
    of_image = lax.platform_dependent(dx, kernel, cpu=by_image, default=plain)
    return _convolution(x, kernel, pads), of_image + of_kernel


def _flipped(x: jax.Array, kernel: jax.Array, pads: tuple) -> jax.Array:
    """The same from flipped maps by the flipped kernel. XLA, to read it backwards, flips the kernel
    once more, which undoes it: flipping once took half the time of a deep layer."""
    pads = tuple((after, before) for before, after in pads)
    return _convolution.fun(x[:, ::-1, ::-1], kernel[::-1, ::-1], pads)[:, ::-1, ::-1]


def _by_blocks(x: jax.Array, kernel: jax.Array, pads: tuple) -> jax.Array:
    """Linear in the kernel; read backwards, each block of rows is one product of matrices.

    What comes out is shifted to all places of the kernel, by columns in the loop, by rows behind.
    """
    (b, h, w, c), (kh, kw, _, out), ((above, below), (left, right)) = x.shape, kernel.shape, pads
    blocks = next(n for n in range(-(-b * h // max(1, _BLOCK // w)), b * h + 1) if b * h % n == 0)
    kernel = kernel.astype(jnp.float32).transpose(1, 0, 3, 2).reshape(-1, c)

    def summed(parts: list[jax.Array], axis: int, before: int, size: int) -> jax.Array:
        """The i-th after `before - i` zeros, cut or filled to `size`."""
        edges = [[(0, 0, 0)] * parts[0].ndim for _ in parts]
        for i, part in enumerate(parts):
            edges[i][axis] = before - i, size - part.shape[axis] - before + i, 0
        return sum(lax.pad(part, 0.0, edge) for part, edge in zip(parts, edges, strict=True))

    # Made again in the backward pass, or the loop would keep what each block made.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def block(x: jax.Array) -> jax.Array:
        y = jnp.einsum("kc,rwc->krw", kernel, x.astype(jnp.float32))
        y = summed(lax.split(y, [kh * out] * kw), 2, left, w + left + right - kw + 1)
        return jnp.moveaxis(y, 0, -1)

    y = lax.map(block, x.reshape(blocks, -1, w, c)).reshape(b, h, -1, kh * out)
    y = summed(lax.split(y, [out] * kh, axis=3), 1, above, h + above + below - kh + 1)
    return y.astype(x.dtype)
