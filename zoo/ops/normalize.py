"""Batch norm's sums over pixels, row by row first.

By channel at once, XLA's CPU backend takes five times as long (experiments/bench/NOTES.md).
"""

import jax
import jax.numpy as jnp


def mean_and_var(x: jax.Array, axis_name: str | None = None) -> tuple[jax.Array, jax.Array]:
    """Each channel's mean and variance: [b, h, w, c] float -> [c] and [c] float32.

    Over images, pixels and the devices of a mapped axis.
    """

    def average(x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        mean = x.reshape(b * h, w * c).mean(0).reshape(w, c).mean(0)
        return mean if axis_name is None else jax.lax.pmean(mean, axis_name)

    mean = average(x := x.astype(jnp.float32))
    fixed = jax.lax.stop_gradient(mean)
    # The second term is 0, and there for second derivatives: E(x - a)^2 - (E x - a)^2 is any a's.
    return mean, average(jnp.square(x - fixed)) - jnp.square(mean - fixed)


@jax.custom_jvp
def scale_shift(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """x * scale + shift, of [b, h, w, c], [c] and [c]."""
    return x * scale + shift


@scale_shift.defjvp
def _tangent(primals: tuple, tangents: tuple) -> tuple:
    (x, scale, _), (dx, *by_channel) = primals, tangents
    # JAX reads this backwards for the gradient: whole rows are summed, and then their pixels.
    dscale, dshift = (jnp.tile(v, x.shape[2]) for v in by_channel)
    rows = x.reshape(-1, dscale.size) * dscale + dshift
    return scale_shift(*primals), dx * scale + rows.reshape(x.shape)
