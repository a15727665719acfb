"""Softmax over the batch: whoever has the anchor's label should be its neighbour."""

import jax
import jax.numpy as jnp

from zoo.losses.masks import check_batch, pair_masks
from zoo.ops.labels import check_number


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
        labels: [b] integer, any values of int32.
        temperature: above 0.
        valid: [b] bool; the other rows are padding and may hold anything. None: all.
        anchors: [a] integer, the rows whose loss is wanted, against all of the batch. None: all.

    Returns:
        values: [a] float32, loss of each anchor, the mean over its positives.
        weights: [a] float32, ones; 0 for padding, and where an anchor has no positive.

    Raises:
        ValueError: shapes or types do not fit, or the temperature is not positive.
    """
    check_number("temperature", temperature, "> 0", lambda t: t > 0)
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
    x, labels, valid, rows = check_batch(embeddings, labels, valid, anchors)
    s = jnp.matmul(x[rows], x.T, precision=jax.lax.Precision.HIGHEST)
    return s, *pair_masks(labels, valid, rows), valid[rows]
