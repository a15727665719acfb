"""Triplet losses that find their triplets in the batch.

All take the same arguments and return one value an anchor. With `anchors`, the rows whose triplets
are wanted, against the whole batch, work and memory are theirs alone: the values and gradients of
a partition of the rows add up to those of the batch. So each device takes its own rows of the
gathered batch. Nothing is larger than [a, b].

Distances are Euclidean, or their squares with `squared`; computed in float32 from any dtype, from
embeddings taken as they are (nothing is normalised). A distance has gradient 0 where it is 0. A
triplet just on the margin is inactive. Embeddings of any size do, unless the loss itself overflows
(with `squared` from lengths of 1e19 on); a nan in a valid row makes every value nan.
"""

import jax
import jax.numpy as jnp

from zoo.losses.masks import check_labels, negative_mask, positive_mask
from zoo.ops.distance import pairwise_squared_distance, rows_at_once, safe_sqrt

# Positives compared in one pass over [a, b].
_SLOTS = 4


def batch_all_triplet(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    margin: float,
    squared: bool = False,
    valid: jax.Array | None = None,
    anchors: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The mean over all triplets of the batch whose loss is positive.

    "Batch all, non-zero" of Hermans, Beyer & Leibe, "In Defense of the Triplet Loss for Person
    Re-Identification", arXiv:1703.07737, Eq. 6 and Sec. 3.2: max(d_ap - d_an + margin, 0) over all
    positives p and negatives n of each anchor a. Exact in O(a b) memory and O(a b k) time for
    classes of up to k. The share of triplets still active is `weights.sum() / num_triplets(...)`.
    Raises ValueError where shapes or types do not fit, or the margin is negative.

    Args:
        embeddings: [b, d] float.
        labels: [b] integer, any values of int32.
        margin: >= 0, in units of the distance, squared or not.
        squared: distances are squared.
        valid: [b] bool; the other rows are padding and may hold anything. None: all.
        anchors: [a] integer, the rows whose triplets are wanted. None: all.

    Returns:
        values: [a] float32, the sum of each anchor's active triplets.
        weights: [a] float32, their number.
    """
    d, unit = _distances(embeddings, labels, margin, squared, valid, anchors)
    return _sum_triplets(d, unit, labels, valid, anchors, margin, semi_hard=False)


def batch_semi_hard_triplet(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    margin: float,
    squared: bool = False,
    valid: jax.Array | None = None,
    anchors: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The mean over all triplets with d_ap < d_an < d_ap + margin.

    Eq. 4 of Schroff, Kalenichenko & Philbin, "FaceNet: A Unified Embedding for Face Recognition
    and Clustering", CVPR 2015, whose distances are squared; every such triplet, not one a pair.
    Arguments, memory, time, returns and errors are those of `batch_all_triplet`.
    """
    d, unit = _distances(embeddings, labels, margin, squared, valid, anchors)
    return _sum_triplets(d, unit, labels, valid, anchors, margin, semi_hard=True)


def batch_hard_triplet(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    margin: float,
    squared: bool = False,
    soft: bool = False,
    valid: jax.Array | None = None,
    anchors: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The farthest positive against the nearest negative of each anchor.

    Hermans, Beyer & Leibe, arXiv:1703.07737, Eq. 5. Ties share the gradient, so that the order of
    the batch does not matter. Arguments and errors are those of `batch_all_triplet`, and

    Args:
        soft: ln(1 + exp(d_ap - d_an + margin)) in place of max(d_ap - d_an + margin, 0); the
            paper's soft margin is `soft=True, margin=0`.

    Returns:
        values: [a] float32, the loss of each anchor.
        weights: [a] float32, 1; 0 for anchors without a positive or without a negative.
    """
    d, unit = _distances(embeddings, labels, margin, squared, valid, anchors)

    def of_anchor(anchor):
        d, positive, negative = anchor
        # Masked before the difference: without a positive or a negative it is infinite.
        counts = positive.any() & negative.any()
        farthest = jnp.where(counts, jnp.where(positive, d, -jnp.inf).max(), 0)
        nearest = jnp.where(counts, jnp.where(negative, d, jnp.inf).min(), 0)
        ties = [counts & positive & (d == farthest), counts & negative & (d == nearest)]
        slope = [tie / jnp.maximum(tie.sum(), 1) for tie in ties]
        return farthest - nearest, counts, slope[0] - slope[1]

    masks = [mask(labels, valid=valid, anchors=anchors) for mask in (positive_mask, negative_mask)]
    difference, counts, slope = _each_anchor(of_anchor, d, *masks)
    difference = _scaled(_with_slope(difference, slope, d), unit) + margin
    values = jax.nn.softplus(difference) if soft else jax.nn.relu(difference)
    # relu would turn the nan of a nan embedding to 0.
    values = jnp.where(jnp.isnan(difference), jnp.nan, values)
    return jnp.where(counts, values, 0), counts.astype(jnp.float32)


def _distances(embeddings, labels, margin, squared, valid, anchors):
    """Distances [a, b] in units of the product of the returned numbers, powers of two."""
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        got = f"{embeddings.shape} and {labels.shape}"
        raise ValueError(f"embeddings [b, d] and labels [b] are needed; got {got}.")
    if not 0 <= margin < jnp.inf:
        raise ValueError(f"margin must be >= 0 and finite; got {margin}.")
    _, valid = check_labels(labels, valid)
    # Masked before all else: padding may hold nan, which a later `where` leaves in the gradient.
    x = jnp.where(valid[:, None], jnp.asarray(embeddings, jnp.float32), 0)
    # The squares of 1e-20 and 1e20 are no float32; powers of two change no digit. Not below 2^-40:
    # the margin is divided by the unit, twice, and the gradient multiplied.
    largest = jax.lax.stop_gradient(jnp.abs(x).max(initial=0))
    unit = jnp.ldexp(1.0, jnp.maximum(jnp.frexp(largest)[1] - 1, -40))
    unit = jnp.where(jnp.isfinite(largest), unit, jnp.nan)
    x /= unit
    own = (x,) if anchors is None else (x[jnp.asarray(anchors)], x)
    d = pairwise_squared_distance(*own)
    return (d, (unit, unit)) if squared else (safe_sqrt(d), (unit,))


def _scaled(x: jax.Array, units: tuple[jax.Array, ...]) -> jax.Array:
    for unit in units:  # One after the other: their product may overflow though this does not.
        x = x * unit
    return x


def _each_anchor(function, d, *rest):
    """A function of one row of distances and masks mapped over all, some at a time; no gradient."""
    mapped = jax.lax.stop_gradient((d, *rest))
    results = jax.lax.map(function, mapped, batch_size=rows_at_once(d.shape[1]))
    return jax.lax.stop_gradient(results)


def _with_slope(values: jax.Array, slope: jax.Array, d: jax.Array) -> jax.Array:
    """The values [a], with `slope` [a, b] as their derivatives by the distances."""
    return values + (slope * (d - jax.lax.stop_gradient(d))).sum(axis=1)  # What is added is 0.


def _sum_triplets(d, unit, labels, valid, anchors, margin, *, semi_hard):
    """Sum [a] and number [a] of the active triplets of each anchor, given the distances [a, b]."""
    for part in unit:
        margin = margin / part
    labels, valid = check_labels(labels, valid)
    positives = positive_mask(labels, valid=valid, anchors=anchors).sum(axis=1)
    # Who is no negative is infinitely far, and never active.
    negative = negative_mask(labels, valid=valid, anchors=anchors)

    # Sorted by label, with padding last, a class is a run, and an anchor's n-th positive is the
    # n-th of its run, without itself.
    rows = jnp.arange(len(labels))
    order = jnp.lexsort((labels, ~valid))
    place = jnp.zeros_like(rows).at[order].set(rows)
    in_order, padding = labels[order], ~valid[order]
    first = (in_order != jnp.roll(in_order, 1)) | (padding != jnp.roll(padding, 1))
    start = jax.lax.cummax(jnp.where(first, rows, 0))[place]
    own = place - start
    if anchors is not None:
        start, own = start[jnp.asarray(anchors)], own[jnp.asarray(anchors)]
    steps = -(-positives.max(initial=0) // _SLOTS)

    def of_anchor(anchor):
        known, negative, positives, start, own = anchor
        far = jnp.where(negative, known, jnp.inf)

        def add(step, state):
            value, weight, slope = state
            n = step * _SLOTS + jnp.arange(_SLOTS)
            column = order.at[start + n + (n >= own)].get(mode="clip")
            near = jnp.where(n < positives, known[column], -jnp.inf)
            loss, found, pushed = 0, 0, []
            for slot in near:
                excess = slot + margin - far
                active = excess > 0
                if semi_hard:
                    active &= far > slot
                loss += jnp.where(active, excess, 0)
                found += active.astype(jnp.float32)
                pushed.append(active.sum(dtype=jnp.float32))
            # The derivative by a distance is an integer: in how many active triplets it is the
            # positive, less in how many the negative.
            pushed = jnp.stack(pushed)
            slope = (slope - found).at[column].add(pushed)
            return value + loss.sum(), weight + pushed.sum(), slope

        return jax.lax.fori_loop(0, steps, add, (0.0, 0.0, jnp.zeros_like(known)))

    values, weights, slope = _each_anchor(of_anchor, d, negative, positives, start, own)
    values = _scaled(_with_slope(values, slope, d), unit)
    # No triplet of nan is active, and a mean over none is 0: their number must tell.
    return values, jnp.where(jnp.isnan(values), jnp.nan, weights)
