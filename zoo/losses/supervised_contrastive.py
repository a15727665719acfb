"""Softmax over the batch: whoever has the anchor's label should be its neighbour."""

import jax
import jax.numpy as jnp


def supervised_contrastive(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    temperature: float = 0.1,
    valid: jax.Array | None = None,
    anchors: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of picking each positive of an anchor among all others of the batch.

    L_out, Eq. 2 of Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020. Where every
    label occurs twice, as of two views of a picture, it is NT-Xent, Eq. 1 of Chen et al., "A
    Simple Framework for Contrastive Learning of Visual Representations", ICML 2020. The factor
    temperature / 0.07 of the authors' code is not in their equation, nor here.

    Args:
        embeddings: [b, d] float, taken as they are: the papers' have length 1.
        labels: [b] integer, any values.
        temperature: > 0.
        valid: [b] bool; the other rows are padding and may hold anything. None: all.
        anchors: [a] integer, the rows whose loss is wanted, against all of the batch. None: all.

    Returns:
        values: [a] float32, loss of each anchor, the mean over its positives.
        weights: [a] float32, ones; 0 for padding, and where an anchor has no positive.

    Raises:
        ValueError: shapes or types do not fit, or the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"supervised_contrastive needs a temperature > 0; got {temperature}.")
    s, positive, negative, _ = similarities(embeddings, labels, valid, anchors)
    count = positive.sum(axis=1, dtype=jnp.float32)
    counts = count > 0
    # An anchor without a positive keeps all: log_softmax of nothing at all would be nan.
    keep = positive | negative | ~counts[:, None]
    log_p = jax.nn.log_softmax(jnp.where(keep, s / temperature, -jnp.inf), axis=1)
    # Divided before the sum, which could overflow.
    share = jnp.where(positive, log_p, 0) / jnp.maximum(count, 1)[:, None]
    return -share.sum(axis=1), counts.astype(jnp.float32)


def similarities(embeddings, labels, valid, anchors) -> tuple[jax.Array, ...]:
    """Dot products of anchors and batch, which are positives, which negatives [a, b]; valid [a]."""
    rows = embeddings.shape[:1]
    valid = jnp.ones(rows, bool) if valid is None else jnp.asarray(valid, bool)
    if embeddings.ndim != 2 or labels.shape != rows or valid.shape != rows:
        got = f"{embeddings.shape}, {labels.shape} and {valid.shape}"
        raise ValueError(f"embeddings [b, d], labels [b] and valid [b] are needed; got {got}.")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be integers; got {labels.dtype}.")
    anchors = jnp.arange(rows[0]) if anchors is None else jnp.asarray(anchors)
    # Masked before the product: there, nan in padding would reach every row.
    x = jnp.where(valid[:, None], embeddings.astype(jnp.float32), 0)
    s = jnp.matmul(x[anchors], x.T, precision=jax.lax.Precision.HIGHEST)
    pair = valid & valid[anchors, None] & (anchors[:, None] != jnp.arange(rows[0]))
    equal = jnp.asarray(labels)[anchors, None] == labels
    return s, pair & equal, pair & ~equal, valid[anchors]
