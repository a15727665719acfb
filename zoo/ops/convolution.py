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
    gradient = b * h * w * out
    if x.dtype not in (jnp.float32, jnp.bfloat16) or kh * kw > 9 or gradient * c < _PAYS:
        return False
    return b <= 4 or gradient >= 2**21  # XLA's is fast where 8 images have a small one.


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
    (b, h, w, c), (kh, kw, _, out), ((above, below), sides) = x.shape, kernel.shape, pads
    h, w = h + above + below - kh + 1, w + sum(sides) - kw + 1
    rows = -(-h // (blocks := -(-h // max(1, _BLOCK // (b * w)))))
    edges = (0, 0, 0), (above, below + blocks * rows - h, 0), (*sides, 0), (0, 0, 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    places = [(i, j, kernel[i, j].astype(jnp.float32)) for i in range(kh) for j in range(kw)]

    # Cut out again in the backward pass, or the loop would keep each block kh * kw times.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def block(top: jax.Array) -> jax.Array:
        near = lax.dynamic_slice_in_dim(x, top, rows + kh - 1, axis=1).astype(jnp.float32)
        cuts = ((near[:, i : i + rows, j : j + w].reshape(-1, c), part) for i, j, part in places)
        return sum(cut @ part for cut, part in cuts).astype(x.dtype)

    y = lax.map(block, rows * jnp.arange(blocks)).reshape(blocks, b, rows, w, out)
    return jnp.moveaxis(y, 0, 1).reshape(b, -1, w, out)[:, :h]
