"""Who is a positive and who a negative of whom, within a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.ops.labels import check_number, seen

OrNone = jax.Array | None


def positive_mask(labels: jax.Array, *, valid: OrNone = None, anchors: OrNone = None) -> jax.Array:
    """Which examples have the anchor's label, without the anchor itself: [a, b] bool.

    Raises ValueError where shapes or types do not fit, or labels do not fit int32.

    Args:
        labels: [b] integer, any values of int32.
        valid: [b] bool; the other rows are padding, nobody's positive or negative. None: all.
        anchors: [a] integer, the rows wanted. None: all.
    """
    return pair_masks(labels, valid, anchors)[0]


def negative_mask(labels: jax.Array, *, valid: OrNone = None, anchors: OrNone = None) -> jax.Array:
    """Which examples have another label than the anchor: [a, b] bool; as `positive_mask`."""
    return pair_masks(labels, valid, anchors)[1]


def triplet_mask(labels: jax.Array, *, valid: OrNone = None, anchors: OrNone = None) -> jax.Array:
    """Which (anchor, positive, negative) are triplets: [a, b, b] bool, so for small batches."""
    positive, negative = pair_masks(labels, valid, anchors)
    return positive[:, :, None] & negative[:, None, :]


def num_triplets(labels: jax.Array, *, valid: OrNone = None, anchors: OrNone = None) -> jax.Array:
    """How many triplets there are: P K (K - 1) (P K - K) for P classes of K.

    A scalar, float32, as int32 would overflow from b = 2048 on; exact to 2^24, then to 1e-6.
    """
    positive, negative = pair_masks(labels, valid, anchors)
    return (positive.sum(axis=1, dtype=jnp.float32) * negative.sum(axis=1)).sum()


def check_rows(labels: jax.Array, valid: OrNone, anchors: OrNone) -> tuple[jax.Array, ...]:
    """Labels [b], integers, valid [b], bool, and anchors [a], None for all; else ValueError."""
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be integers [b]; got {labels.dtype} {labels.shape}.")
    valid = check_valid(valid, labels.shape)
    wide = not np.can_cast(labels.dtype, np.int32)  # Else there is no need to fetch them.
    if wide and (found := seen(labels)) is not None and found.size:
        ends, limits = (found.min(), found.max()), np.iinfo(np.int32)
        if ends[0] < limits.min or ends[1] > limits.max:
            raise ValueError(f"labels must fit int32; got {ends[0]} to {ends[1]}: renumber them.")
    anchors = np.arange(len(labels)) if anchors is None else anchors
    if anchors.ndim != 1 or not jnp.issubdtype(anchors.dtype, jnp.integer):
        raise ValueError(f"anchors must be integers [a]; got {anchors.dtype} {anchors.shape}.")
    rows, b = seen(anchors), len(labels)
    if rows is not None and rows.size and (rows.min() < 0 or rows.max() >= b):
        raise ValueError(f"anchors must be rows, 0..{b - 1}; got {rows.min()} to {rows.max()}.")
    return jnp.asarray(labels), valid, jnp.asarray(anchors)


def check_margin(margin: Any) -> None:
    """ValueError for a margin below 0 or not finite."""
    check_number("margin", margin, ">= 0 and finite", lambda m: 0 <= m < np.inf)


def check_valid(valid: OrNone, shape: tuple[int, ...]) -> jax.Array:
    """Which rows count, [b] bool; None is all, what is not bool of that shape a ValueError."""
    valid = jnp.ones(shape, bool) if valid is None else valid
    if valid.shape != shape or valid.dtype != bool:
        got = f"{valid.dtype} {valid.shape}"
        raise ValueError(f"valid must be bool, one a row, {shape}; got {got}.")
    return jnp.asarray(valid)


def check_batch(embeddings, labels, valid: OrNone, anchors: OrNone = None) -> tuple[jax.Array, ...]:
    """Embeddings [b, d] float32, labels, valid and anchors [a]; ValueError likewise, and at b = 0.

    Rows not valid are zeros: padding may hold nan, which a later `where` leaves in the gradient.
    """
    fits = embeddings.ndim == 2 and labels.shape == embeddings.shape[:1] and len(labels)
    if not fits or not jnp.issubdtype(embeddings.dtype, jnp.floating):
        got = f"{embeddings.shape} and {labels.shape}, {embeddings.dtype}"
        raise ValueError(f"float embeddings [b, d] and labels [b], b > 0, are needed; got {got}.")
    labels, valid, anchors = check_rows(labels, valid, anchors)
    return jnp.where(valid[:, None], embeddings.astype(jnp.float32), 0), labels, valid, anchors


def pair_masks(labels, valid: OrNone, anchors: OrNone) -> tuple[jax.Array, jax.Array]:
    """`positive_mask` and `negative_mask`."""
    labels, valid, anchors = check_rows(labels, valid, anchors)
    same, both = labels[anchors][:, None] == labels, valid[anchors][:, None] & valid
    return same & both & (anchors[:, None] != jnp.arange(len(labels))), ~same & both
