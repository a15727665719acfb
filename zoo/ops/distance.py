"""Euclidean distances whose gradients stay finite."""

import jax
import jax.numpy as jnp


def safe_sqrt(x: jax.Array) -> jax.Array:
    """The square root, with gradient 0 instead of infinity where `x` is 0 or below.

    Args:
        x: float of any shape, >= 0; what rounding has made negative counts as 0.

    Returns:
        The shape and dtype of `x`.
    """
    # Masked before the root: a `where` after it would multiply infinity by 0 in the gradient.
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
