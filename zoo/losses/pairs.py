"""Losses of pairs: do the two of a pair match or not?"""

import jax
import jax.numpy as jnp

from zoo.losses.masks import check_margin, check_valid
from zoo.ops.distance import safe_norm


def pair_cross_entropy(
    logits: jax.Array, same: jax.Array, *, valid: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Binary cross-entropy of the claim that a pair matches, as of `SiameseVerifier`.

    -log p where it does and -log(1 - p) where not, p = sigmoid(logit): Koch, Zemel &
    Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition", 2015, Sec. 3.2.

    Args:
        logits: [b] float, > 0 for "same".
        same, valid: [b] bool, as of `contrastive`.

    Returns:
        values: [b] float32, loss of each pair.
        weights: [b] float32, ones; 0 for padding.

    Raises:
        ValueError: shapes or types do not fit.
    """
    if logits.ndim != 1:
        raise ValueError(f"pair_cross_entropy needs logits [b], one a pair; got {logits.shape}.")
    same, valid = _flags(same, valid, logits.shape)
    logits = jnp.where(valid, logits.astype(jnp.float32), 0)
    values = jax.nn.softplus(jnp.where(same, -logits, logits))
    return jnp.where(valid, values, 0), valid.astype(jnp.float32)


def contrastive(
    x: jax.Array,
    y: jax.Array,
    same: jax.Array,
    *,
    margin: float = 1.0,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Pulls matching pairs together and pushes the others `margin` apart.

    Eq. 4 of Hadsell, Chopra & LeCun, "Dimensionality Reduction by Learning an
    Invariant Mapping", CVPR 2006; the paper's Y is `1 - same`.

    Args:
        x, y: [b, d] float, the two embeddings of each pair, taken as they are.
        same: [b] bool, whether the pair matches.
        margin: at least 0, in units of Euclidean distance (<= 2 between unit vectors).
        valid: [b] bool; the other rows are padding and may hold anything. None: all.

    Returns:
        values: [b] float32, loss of each pair. Gradient 0 at the margin, and at distance 0.
        weights: [b] float32, ones; 0 for padding.

    Raises:
        ValueError: shapes or types do not fit, or the margin is negative.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"contrastive needs x and y of one [b, d]; got {x.shape} and {y.shape}.")
    check_margin(margin)
    same, valid = _flags(same, valid, x.shape[:1])
    # Masked before the square: padding may hold nan, which a later `where` leaves in the gradient.
    difference = jnp.where(valid[:, None], x.astype(jnp.float32) - y.astype(jnp.float32), 0)
    d2 = jnp.sum(jnp.square(difference), axis=-1)
    # safe_norm: the gradient of sqrt at 0 is inf, and identical pairs do occur.
    apart = jax.nn.relu(jnp.float32(margin) - safe_norm(difference))
    values = 0.5 * jnp.where(same, d2, jnp.square(apart))
    return jnp.where(valid, values, 0), valid.astype(jnp.float32)


def _flags(same, valid, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """`same` and `valid` as bool of `shape`."""
    if same.shape != shape:
        raise ValueError(f"same must be one a pair, {shape}; got {same.shape}.")
    if same.dtype != bool:  # Of 1 and -1 both would be true.
        raise ValueError(f"same must be bool, not {same.dtype}: pass `same > 0.5`, say.")
    return jnp.asarray(same), check_valid(valid, shape)
