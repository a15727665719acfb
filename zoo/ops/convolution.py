"""A convolution whose gradient by the kernel is fast on large maps, on CPU too.

XLA's CPU backend writes that gradient with a window of the whole map, at a quarter of the speed of
what stands here, products of matrices by blocks of rows (experiments/bench/NOTES.md).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

_NAMES = ("NHWC", "HWIO", "NHWC")
_BLOCK = 2048  # Pixels of a block, of all images together: it stays in the cache.
_OLD = jax.__version_info__ < (0, 10)  # 0.7.2 fails to read a choice by platform backwards.
_PAYS = 2**21  # Products at a place of the kernel, below which compiling costs more than it saves.


def convolution(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated`; on CPU the gradient by the kernel by blocks if that is fast.

    Blocks are summed in float32. Differentiates in any mode and as often as one likes. Before JAX
    0.10 that gradient is XLA's in any case.
    """
    if not _gains(x, kernel, strides, options):
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return _convolution(x, kernel, tuple(map(tuple, padding)))


def _gains(x: jax.Array, kernel: jax.Array, strides, options: dict) -> bool:
    if _OLD or x.ndim != 4 or tuple(strides) != (1, 1):
        return False
    if not all(isinstance(n, int) for n in x.shape):  # Of a free size, in an export.
        return False
    others = (v for k, v in options.items() if k != "dimension_numbers")
    names = options.get("dimension_numbers"), _NAMES
    specs = {lax.conv_dimension_numbers(x.shape, kernel.shape, n) for n in names}
    if any(v not in (None, 1, (1, 1)) for v in others) or len(specs) > 1:
        return False
    (b, h, w, c), (kh, kw, _, out) = x.shape, kernel.shape
    if x.dtype not in (jnp.float32, jnp.bfloat16) or kh * kw > 9 or b * h * w * c * out < _PAYS:
        return False
    # XLA's is faster the more images there are, this one the more one side of the kernel is narrow.
    return b * min(c, out) <= 2 * max(c, out)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, kernel: jax.Array, pads: tuple) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_NAMES)


@_convolution.defjvp
def _tangent(pads: tuple, primals: tuple, tangents: tuple) -> tuple:
    (x, kernel), (dx, dkernel) = primals, tangents
    plain, blocks = (functools.partial(f, pads=pads) for f in (_convolution.fun, _by_blocks))
    # Linear in dkernel: JAX reads it backwards for the gradient. Only x is kept until then.
    by_kernel = lax.platform_dependent(x, dkernel, cpu=jax.checkpoint(blocks), default=plain)
    return _convolution(x, kernel, pads), plain(dx, kernel) + by_kernel


def _by_blocks(x: jax.Array, kernel: jax.Array, pads: tuple) -> jax.Array:
    """Linear in the kernel; read backwards, each block of rows is one product of matrices.

    Shifted to all places of the kernel, by rows before the loop and by columns in it, is what has
    fewer channels: the image, or what comes out.
    """
    h, w, c = x.shape[1:]
    (kh, kw, _, out), ((above, below), (left, right)) = kernel.shape, pads
    height, width = h + above + below - kh + 1, w + left + right - kw + 1
    rows, columns = [above - i for i in range(kh)], [left - j for j in range(kw)]
    flat = kernel.astype(jnp.float32).transpose(1, 0, 2, 3)

    def by_blocks(block, x: jax.Array) -> jax.Array:
        """Maps [b, h, w, channels] some rows at a time."""
        n = x.shape[0] * x.shape[1]
        least = -(-n // max(1, _BLOCK // x.shape[2]))
        blocks = next(m for m in range(least, n + 1) if n % m == 0)
        # Made again in the backward pass, or the loop would keep what each block made.
        y = lax.map(jax.checkpoint(block, prevent_cse=False), x.reshape(blocks, -1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[2:])

    if c < out:
        flat = flat.reshape(-1, out)

        def block(tall: jax.Array) -> jax.Array:
            tall = jnp.moveaxis(tall.astype(jnp.float32), -1, 0)
            near = jnp.concatenate([_shift(tall, 2, left, width) for left in columns])
            return jnp.einsum("krw,ko->rwo", near, flat).astype(x.dtype)

        tall = jnp.concatenate([_shift(x, 1, above, height) for above in rows], -1)
        return by_blocks(block, tall)
    flat = flat.transpose(0, 1, 3, 2).reshape(-1, c)

    def block(x: jax.Array) -> jax.Array:
        y = jnp.einsum("kc,rwc->krw", flat, x.astype(jnp.float32))
        parts = zip(lax.split(y, [kh * out] * kw), columns, strict=True)
        return jnp.moveaxis(sum(_shift(y, 2, left, width) for y, left in parts), 0, -1)

    parts = lax.split(by_blocks(block, x), [out] * kh, axis=3)
    y = sum(_shift(y, 1, above, height) for y, above in zip(parts, rows, strict=True))
    return y.astype(x.dtype)


def _shift(x: jax.Array, axis: int, before: int, size: int) -> jax.Array:
    """`before` zeros, and then x, cut or with zeros behind to `size`."""
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = before, size - x.shape[axis] - before, 0
    return lax.pad(x, jnp.zeros((), x.dtype), edges)
