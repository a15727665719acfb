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

import functools

import jax
import jax.numpy as jnp

from zoo.losses.masks import check_batch, check_margin, negative_mask, pair_masks
from zoo.ops import distance
from zoo.ops.distance import rows_at_once, safe_sqrt

# Positives compared in one pass over [a, b].
_SLOTS = 4
# Of the batch's radius: a pull on a nearer row would lose digits in a product of matrices.
_NEAR = 0.01
# Room at the end of rows of [a, b]: 4096 floats apart, they share a set of the cache.
_APART = 16


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
        margin: at least 0, in units of the distance, squared or not.
        squared: distances are squared.
        valid: [b] bool; the other rows are padding and may hold anything. None: all.
        anchors: [a] integer, the rows whose triplets are wanted. None: all.

    Returns:
        values: [a] float32, the sum of each anchor's active triplets.
        weights: [a] float32, their number.
    """
    return _sum_triplets(_active, embeddings, labels, margin, squared, valid, anchors)


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
    return _sum_triplets(_active_semi_hard, embeddings, labels, margin, squared, valid, anchors)


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
    the batch does not matter. Other arguments and errors are those of `batch_all_triplet`.

    Args:
        soft: ln(1 + exp(d_ap - d_an + margin)) in place of max(d_ap - d_an + margin, 0); the
            paper's soft margin is `soft=True, margin=0`.

    Returns:
        values: [a] float32, the loss of each anchor.
        weights: [a] float32, 1; 0 for anchors without a positive or without a negative.
    """
    x, units, labels, valid, anchors = _scaled(embeddings, labels, margin, squared, valid, anchors)
    difference, counts = _each_anchor(_hardest, squared, x, anchors, (labels, valid))
    difference = functools.reduce(jnp.multiply, units, difference) + jnp.float32(margin)
    values = jax.nn.softplus(difference) if soft else jax.nn.relu(difference)
    # relu would turn the nan of a nan embedding to 0.
    values = jnp.where(jnp.isnan(difference), jnp.nan, values)
    return jnp.where(counts > 0, values, 0), counts


def _hardest(d, anchor, labels, valid):
    """Of distances [b]: farthest positive less nearest negative, 1 if both are there, slope [b]."""
    positive, negative = (mask[0] for mask in pair_masks(labels, valid, anchor[None]))
    farthest = jnp.where(positive, d, -jnp.inf).max()
    nearest = jnp.where(negative, d, jnp.inf).min()
    counts = positive.any() & negative.any()  # Else the difference is infinite.
    slope = counts * (_share(positive, d, farthest) - _share(negative, d, nearest))
    return jnp.where(counts, farthest - nearest, 0), counts.astype(jnp.float32), slope


def _share(which, d, hardest):
    """The gradient's share [b] of each row at the distance `hardest`, 1 in all; where none is
    equal, as XLA may compute `d` twice, rounded apart, of those within 2^-22 of it."""
    tie, near = which & (d == hardest), which & (jnp.abs(d - hardest) <= 2**-22 * hardest)
    tie = jnp.where(tie.any(), tie, near)
    return tie.astype(jnp.float32) / jnp.maximum(tie.sum(), 1)


def _sum_triplets(of_anchor, embeddings, labels, margin, squared, valid, anchors):
    """Sum [a] and number [a] of the active triplets of each anchor."""
    x, units, labels, valid, anchors = _scaled(embeddings, labels, margin, squared, valid, anchors)
    own = jax.lax.stop_gradient(margin := jnp.float32(margin))
    scaled = functools.reduce(jnp.divide, units, own)
    # Sorted by label, with padding last, a class is a run, and an anchor's n-th positive is the
    # n-th of its run, without itself.
    rows = jnp.arange(len(labels))
    order = jnp.lexsort((labels, ~valid))
    place = jnp.zeros_like(rows).at[order].set(rows)
    in_order, padding = labels[order], ~valid[order]
    first = (in_order != jnp.roll(in_order, 1)) | (padding != jnp.roll(padding, 1))
    first = first.at[:1].set(True)
    start = jax.lax.cummax(jnp.where(first, rows, 0))
    size = jnp.zeros_like(rows).at[start].add(1)[start]
    positives = jnp.where(padding, 0, size - 1)[place]
    start = start[place]
    runs = (order, start, place - start, positives, -(-positives.max(initial=0) // _SLOTS))
    values, weights = _each_anchor(of_anchor, squared, x, anchors, (labels, valid, runs, scaled))
    # And the gradient by the margin: each active triplet has it once.
    values = functools.reduce(jnp.multiply, units, values) + weights * (margin - own)
    # No triplet of nan is active, and a mean over none is 0: their number must tell.
    return values, jnp.where(jnp.isnan(values), jnp.nan, weights)


def _active(d, anchor, labels, valid, runs, margin, semi_hard=False):
    """Of a row of distances: sum and number of the active triplets, and the sum's slope."""
    order, start, own, positives, steps = runs
    # Who is no negative is infinitely far, and never active.
    far = jnp.where(negative_mask(labels, valid=valid, anchors=anchor[None])[0], d, jnp.inf)

    def add(step, state):
        value, weight, slope = state
        n = step * _SLOTS + jnp.arange(_SLOTS)
        column = order.at[start[anchor] + n + (n >= own[anchor])].get(mode="clip")
        near = jnp.where(n < positives[anchor], d[column], -jnp.inf)
        loss, found, pushed = 0, 0, []
        for slot in near:
            excess = slot + margin - far
            active = excess > 0
            if semi_hard:
                active &= far > slot
            loss += jnp.where(active, excess, 0)
            found += active.astype(jnp.float32)
            # As integers: XLA may add those in any order, so by vectors.
            pushed.append(active.sum(dtype=jnp.int32))
        # The derivative by a distance is an integer: in how many active triplets it is the
        # positive, less in how many the negative.
        pushed = jnp.stack(pushed).astype(jnp.float32)
        slope = (slope - found).at[column].add(pushed)
        # By a product, for the same reason.
        loss = jnp.dot(loss, jnp.ones_like(loss), precision=jax.lax.Precision.HIGHEST)
        return value + loss, weight + pushed.sum(), slope

    none = distance.zeros_like(d)
    return jax.lax.fori_loop(0, steps, add, (none[0], none[0], none))


_active_semi_hard = functools.partial(_active, semi_hard=True)


# Distances are made, mined and forgotten a few rows at a time; what each pulls is all that is kept.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _each_anchor(of_anchor, squared, x, anchors, context):
    """Values and weights [a] of `of_anchor(distances [b], anchor, *context)`.

    Its third result, the value's slope by the distances, is what makes the gradient by x [b, d].
    """
    return _forward(of_anchor, squared, x, anchors, context)[0]


def _forward(of_anchor, squared, x, anchors, context):
    tiles, spread2 = distance.in_tiles(x), jnp.square(x - x.mean(0)).sum(1).max(initial=0)
    unused = -len(x) % (2 * _APART) + _APART

    def of_row(anchor):
        d2 = distance.row_distance(x[anchor], tiles, len(x))
        d = d2 if squared else safe_sqrt(d2)
        value, weight, slope = of_anchor(d, anchor, *context)
        # As a factor of the anchor's difference from each row.
        pull = 2 * slope if squared else jnp.where(d > 0, slope / jnp.where(d > 0, d, 1), 0)
        near = ((pull != 0) & (d2 < _NEAR**2 * spread2)).any()
        return value, weight, jnp.pad(pull, (0, unused)), near

    values, weights, pull, near = jax.lax.map(of_row, anchors, batch_size=rows_at_once(len(x)))
    return (values, weights), (x, anchors, pull, near.any())


def _backward(of_anchor, squared, kept, cotangents):
    x, anchors, pull, near = kept
    branches = _by_differences, _by_products
    own, of_others = jax.lax.cond(near, *branches, x[anchors], x, pull, cotangents[0])
    return of_others.at[anchors].add(own), None, None


def _by_differences(a, x, pull, scale):
    """sum_j pull[i, j] (a_i - x_j) of each i, and sum_i pull[i, j] (x_j - a_i) of each j."""
    pull = scale[:, None] * pull[:, : len(x)]
    return distance.weighted_differences(a, x, pull.T), distance.weighted_differences(x, a, pull)


def _by_products(a, x, pull, scale):
    """The same by products of matrices, which are faster; near rows lose digits."""
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    a, padded = a - x.mean(0), jnp.pad(x - x.mean(0), ((0, pull.shape[1] - len(x)), (0, 0)))
    own = pull.sum(1)[:, None] * a - product(pull, padded)
    of_others = product(scale, pull)[:, None] * padded - product(pull.T, scale[:, None] * a)
    return scale[:, None] * own, of_others[: len(x)]


_each_anchor.defvjp(_forward, _backward)


def _scaled(embeddings, labels, margin, squared, valid, anchors):
    """Rows and the units of their distances, powers of two to be multiplied one after the other, as
    their product may overflow; what is given else."""
    check_margin(margin)
    x, labels, valid, anchors = check_batch(embeddings, labels, valid, anchors)
    # The squares of 1e-20 and 1e20 are no float32; powers of two change no digit. Not below 2^-40:
    # the margin is divided by the unit, twice, and the gradient multiplied.
    largest = jax.lax.stop_gradient(jnp.abs(x).max(initial=0))
    unit = jnp.ldexp(jnp.float32(1), jnp.maximum(jnp.frexp(largest)[1] - 1, -40))
    unit = jnp.where(jnp.isfinite(largest), unit, jnp.nan)
    return x / unit, (unit, unit) if squared else (unit,), labels, valid, anchors
