"""Who is a positive and who a negative of whom, within a batch."""

import jax
import jax.numpy as jnp
import numpy as np


def positive_mask(
    labels: jax.Array, *, valid: jax.Array | None = None, anchors: jax.Array | None = None
) -> jax.Array:
    """Which examples have the anchor's label, without the anchor itself: [a, b] bool.

    Raises ValueError where shapes or types do not fit, or labels do not fit int32.

    Args:
        labels: [b] integer, any values of int32.
        valid: [b] bool; the other rows are padding, nobody's positive or negative. None: all.
        anchors: [a] integer, the rows wanted. None: all.
    """
    same, both, anchors = _pairs(labels, valid, anchors)
    return same & both & (anchors[:, None] != jnp.arange(len(labels)))


def negative_mask(
    labels: jax.Array, *, valid: jax.Array | None = None, anchors: jax.Array | None = None
) -> jax.Array:
    """Which examples have another label than the anchor: [a, b] bool; as `positive_mask`."""
    same, both, _ = _pairs(labels, valid, anchors)
    return ~same & both


def triplet_mask(
    labels: jax.Array, *, valid: jax.Array | None = None, anchors: jax.Array | None = None
) -> jax.Array:
    """Which (anchor, positive, negative) are triplets: [a, b, b] bool, so for small batches."""
    options = {"valid": valid, "anchors": anchors}
    positive, negative = positive_mask(labels, **options), negative_mask(labels, **options)
    return positive[:, :, None] & negative[:, None, :]


def num_triplets(
    labels: jax.Array, *, valid: jax.Array | None = None, anchors: jax.Array | None = None
) -> jax.Array:
    """How many triplets there are: P K (K - 1) (P K - K) for P classes of K.

    A scalar, float32, as int32 would overflow from b = 2048 on; exact to 2^24, then to 1e-6.
    """
    options = {"valid": valid, "anchors": anchors}
    positives = positive_mask(labels, **options).sum(axis=1, dtype=jnp.float32)
    return (positives * negative_mask(labels, **options).sum(axis=1)).sum()


def check_labels(labels: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Labels as int32 and valid as bool, both [b]; ValueError if they cannot be that."""
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be integers [b]; got {labels.dtype} {labels.shape}.")
    if valid is not None and (valid.shape != labels.shape or valid.dtype != bool):
        got = f"{valid.dtype} {valid.shape}"
        raise ValueError(f"valid must be bool, one a label, {labels.shape}; got {got}.")
    if isinstance(labels, np.ndarray) and labels.size:
        ends, limits = (labels.min(), labels.max()), np.iinfo(np.int32)
        if ends[0] < limits.min or ends[1] > limits.max:
            raise ValueError(f"labels must fit int32; got {ends[0]} to {ends[1]}: renumber them.")
    valid = jnp.ones(labels.shape, bool) if valid is None else jnp.asarray(valid)
    return jnp.asarray(labels, jnp.int32), valid


def check_batch(
    embeddings: jax.Array, labels: jax.Array, valid: jax.Array | None, anchors=None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Embeddings [b, d] float32, labels, valid and anchors [a]; ValueError likewise, and at b = 0.

    Rows that are not valid are zeros: padding may hold nan, which a later `where` would leave in
    the gradient.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or not len(labels):
        got = f"{embeddings.shape} and {labels.shape}"
        raise ValueError(f"embeddings [b, d] and labels [b], b > 0, are needed; got {got}.")
    labels, valid = check_labels(labels, valid)
    anchors = jnp.arange(len(labels)) if anchors is None else jnp.asarray(anchors)
    return jnp.where(valid[:, None], embeddings.astype(jnp.float32), 0), labels, valid, anchors


def _pairs(labels, valid, anchors) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Which pairs have one label and which are both valid, [a, b]; and the anchors [a]."""
    labels, valid = check_labels(labels, valid)
    anchors = jnp.arange(len(labels)) if anchors is None else jnp.asarray(anchors)
    return labels[anchors][:, None] == labels, valid[anchors][:, None] & valid, anchors
