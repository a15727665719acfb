"""The multi-similarity loss with its mining."""

import jax
import jax.numpy as jnp

from zoo.losses.supervised_contrastive import similarities
from zoo.ops.labels import check_number


def multi_similarity(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 1.0,
    epsilon: float = 0.1,
    valid: jax.Array | None = None,
    anchors: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Weighs the pairs of an anchor by their similarity and by that of its other pairs.

    Wang et al., "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning",
    CVPR 2019. With S the dot product, an anchor keeps the negatives with S > min S of its
    positives - epsilon (Eq. 10) and the positives with S < max S of its negatives + epsilon
    (Eq. 11), and of those it costs

        log(1 + sum_positives e^(-alpha (S - base))) / alpha
        + log(1 + sum_negatives e^(beta (S - base))) / beta

    So an anchor without both kinds costs 0; it weighs 1, as the paper's mean is over the batch.

    Args:
        embeddings: [b, d] float, taken as they are: the paper's have length 1, S is the cosine.
        alpha, beta: above 0, how sharply positives and negatives are weighed.
        base: the paper's lambda; its authors' code has 0.5.
        epsilon: at least 0; infinity keeps all pairs of an anchor that has both kinds.
        labels, valid, anchors: as of `supervised_contrastive`.

    Returns:
        values: [a] float32, loss of each anchor.
        weights: [a] float32, ones; 0 for padding.

    Raises:
        ValueError: shapes or types do not fit, or a number is out of its range.
    """
    for name, number in {"alpha": alpha, "beta": beta}.items():
        check_number(name, number, "> 0", lambda x: x > 0)
    check_number("epsilon", epsilon, ">= 0", lambda x: x >= 0)
    s, positive, negative, valid = similarities(embeddings, labels, valid, anchors)
    farthest = jnp.where(positive, s, jnp.inf).min(axis=1, keepdims=True)
    nearest = jnp.where(negative, s, -jnp.inf).max(axis=1, keepdims=True)
    values = _log1p_sum_exp(alpha * (base - s), positive & (s < nearest + epsilon)) / alpha
    values += _log1p_sum_exp(beta * (s - base), negative & (s > farthest - epsilon)) / beta
    # What is nan is no nearest, farthest or kept.
    values = jnp.where(jnp.isnan(s).any(axis=1), jnp.nan, values)
    return values, valid.astype(jnp.float32)


def _log1p_sum_exp(x: jax.Array, keep: jax.Array) -> jax.Array:
    """log(1 + the sum of e^x over what is kept) of each row; the 1 is a column more, of e^0."""
    return jax.nn.logsumexp(jnp.pad(jnp.where(keep, x, -jnp.inf), ((0, 0), (0, 1))), axis=1)
