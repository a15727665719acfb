"""The loss of triplets that are given."""

import jax
import jax.numpy as jnp

from zoo.losses.masks import check_margin, check_valid


def triplet(
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    *,
    margin: float,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Wants the negative farther from the anchor than the positive, by `margin`.

    max(|a - p|^2 - |a - n|^2 + margin, 0), squared: Eq. 3 of Schroff, Kalenichenko & Philbin,
    "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015.

    Args:
        anchor, positive, negative: [b, d] float, taken as they are: the paper's have length 1.
        margin: at least 0, in units of squared distance (<= 4 between unit vectors).
        valid: [b] bool; the other rows are padding and may hold anything. None: all.

    Returns:
        values: [b] float32, loss of each triplet. Gradient 0 just on the margin.
        weights: [b] float32, ones; 0 for padding.

    Raises:
        ValueError: shapes or types do not fit, or the margin is negative.
    """
    shapes = anchor.shape, positive.shape, negative.shape
    if anchor.ndim != 2 or len({*shapes}) > 1:
        raise ValueError(f"triplet needs three embeddings of one [b, d]; got {shapes}.")
    valid = check_valid(valid, anchor.shape[:1])
    check_margin(margin)
    # Masked before the squares: padding may hold nan, which a later `where` leaves in the gradient.
    anchor, *others = (x.astype(jnp.float32) for x in (anchor, positive, negative))
    near, far = (jnp.where(valid[:, None], anchor - x, 0) for x in others)
    values = jax.nn.relu(jnp.square(near).sum(-1) - jnp.square(far).sum(-1) + jnp.float32(margin))
    return jnp.where(valid, values, 0), valid.astype(jnp.float32)
