"""From `values, weights` to the loss."""

import jax
import jax.numpy as jnp


def mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """`values.sum() / weights.sum()`, [] float32, and 0 where the weights sum to 0.

    On several devices the sums cross first and are divided once; this is for one.

    Args:
        values: float of any shape, multiplied by their weights already.
        weights: of the same shape (else ValueError), >= 0.
    """
    if values.shape != weights.shape:
        got = f"{values.shape} and {weights.shape}"
        raise ValueError(f"mean takes values and weights of one shape, as of a loss; got {got}.")
    total = weights.sum(dtype=jnp.float32)
    # The divisor is masked, not only the quotient: 0 / 0 would leave nan in the gradient.
    quotient = values.sum(dtype=jnp.float32) / jnp.where(total == 0, 1.0, total)
    return jnp.where(total == 0, 0.0, quotient)
