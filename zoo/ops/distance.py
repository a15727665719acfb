"""Euclidean distances whose gradients stay finite."""

import functools

import jax
import jax.numpy as jnp

# Terms of a sum in one pass; 32 took twice the processor time of 16 (n = m = 4096, d = 128).
_TERMS = 16
# Others in one tile. Of 4096 in rows one below the other, 16 KB apart, the terms of a pass share
# a set of the first cache, which does not hold them: that took twice the time.
_TILE = 128


def pairwise_squared_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """The squared Euclidean distance of every row of `x` to every row of `y`.

    The sum of squared differences, in O(n m) memory, value and gradient; reverse mode only. Not
    |x|^2 + |y|^2 - 2 x.y, which multiplies faster but cancels: there the distance of equal unit
    vectors was up to 1e-3 (d = 128). Here it is exactly 0, and near rows are as exact as far ones.

    Args:
        x, y: [n, d] and [m, d] float, else ValueError; computed in float32 whatever they are.

    Returns:
        [n, m] float32, >= 0; inf where the square overflows.
    """
    floats = all(jnp.issubdtype(rows.dtype, jnp.floating) for rows in (x, y))
    if not floats or x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in y.shape:
        got = f"{x.dtype} {x.shape} and {y.dtype} {y.shape}"
        raise ValueError(f"Floats x [n, d] and y [m, d], m, d > 0, are needed; got {got}.")
    return _squared_distance(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))


# Its own gradient, as that of the loop would keep all [n, m, d] differences.
@jax.custom_vjp
def _squared_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    of_row = functools.partial(row_distance, tiles=in_tiles(y), m=len(y))
    return jax.lax.map(of_row, x, batch_size=rows_at_once(len(y)))


def _backward(rows, g):
    x, y = rows
    return 2 * weighted_differences(x, y, g.T), 2 * weighted_differences(y, x, g)


_squared_distance.defvjp(lambda x, y: (_squared_distance(x, y), (x, y)), _backward)


def row_distance(row: jax.Array, tiles: jax.Array, m: int) -> jax.Array:
    """The squared distance [m] of a row [d] to m others, given as `in_tiles(others)`."""

    def add(total, terms):
        own, others = terms
        for n, a in enumerate(own):
            total += jnp.square(a - others[:, n])
        return total, None

    total = zeros_like(tiles[0, :, 0])
    return jax.lax.scan(add, total, (in_passes(row[:, None])[..., 0], tiles))[0].ravel()[:m]


def weighted_differences(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
    """sum_j weights[j, i] (x_i - y_j), [n, d], weights [m, n]; a matrix product would cancel."""

    def add(total, terms):
        for b, weight in zip(*terms, strict=True):
            total += weight[:, None] * (x - b)
        return total, None

    return jax.lax.scan(add, zeros_like(x), (in_passes(y), in_passes(weights)))[0]


def zeros_like(x: jax.Array) -> jax.Array:
    """Zeros that, as x, differ by device: what `jax.shard_map` wants a loop's sum to begin with."""
    return jnp.where(False, x, 0)


def in_passes(x: jax.Array) -> jax.Array:
    """[n, m] -> [passes, terms, m], filled up with zeros, which add nothing."""
    terms = max(1, min(_TERMS, len(x)))
    return jnp.pad(x, ((0, -len(x) % terms), (0, 0))).reshape(-1, terms, x.shape[1])


def in_tiles(x: jax.Array) -> jax.Array:
    """[m, d] -> [passes, tiles, terms, others of a tile], filled up, for `row_distance`."""
    passes = in_passes(jnp.pad(x, ((0, -len(x) % _TILE), (0, 0))).T)
    return passes.reshape(*passes.shape[:2], -1, _TILE).swapaxes(1, 2)


def rows_at_once(m: int) -> int:
    """How many rows of [n, m] to work on at a time: in a core's cache, or filling a GPU or TPU."""
    return max(1, 2 ** (17 if jax.default_backend() == "cpu" else 24) // max(1, m))


def safe_sqrt(x: jax.Array) -> jax.Array:
    """The square root of floats >= 0, in their dtype, with gradient 0, not infinity, at 0.

    What rounding has made negative counts as 0.
    """
    # Masked before the root: a `where` after it would multiply infinity by 0 in the gradient.
    positive = ~(x <= 0)  # A nan stays one.
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def safe_norm(x: jax.Array) -> jax.Array:
    """The Euclidean length of rows [..., d], at any scale, with gradient 0 where it is 0."""
    largest = jax.lax.stop_gradient(jnp.abs(x).max(-1))
    unit = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    return unit * safe_sqrt(jnp.square(x / unit[..., None]).sum(-1))


def unit_rows(x: jax.Array) -> jax.Array:
    """Rows [..., d] of length 1, at any scale; those below 1e-30 are zeros, with gradient 0."""
    largest = jax.lax.stop_gradient(jnp.abs(x).max(-1, keepdims=True))
    usable = ~(largest <= 1e-30)  # A nan stays one.
    # Divided first, or squares over- and underflow. The divisor cancels: it needs no gradient.
    x = jnp.where(usable, x, 0) / jnp.where(usable, largest, 1)
    return x / jnp.sqrt(jnp.where(usable, jnp.square(x).sum(-1, keepdims=True), 1))
