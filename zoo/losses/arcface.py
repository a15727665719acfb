"""Classification by angles, whose features then serve to compare."""

import math

import jax
import jax.numpy as jnp

from zoo.losses.masks import check_batch
from zoo.ops.distance import safe_sqrt, unit_rows
from zoo.ops.labels import check_ids, check_number


def arcface(
    embeddings: jax.Array,
    centres: jax.Array,
    labels: jax.Array,
    *,
    margin: float = 0.5,
    scale: float = 64.0,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy of scale * cos(angle to each centre), the label's made harder.

    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, Eq.
    3: cos(t) of the label's centre becomes cos(t + margin); margin 0 is the normalised softmax.
    Beyond pi - margin, where that rises again, cos(t) - margin * sin(margin), as the authors' code.

    Args:
        embeddings: [b, d] float. As in the paper's formula they and the centres are divided by
            their lengths *here*; one of zeros, or below 1e-30, has gradient 0.
        centres: [k, d] float, one a class: parameters, to be trained along.
        labels: [b] integer, 0..k-1.
        margin, scale: in [0, pi) radians, and > 0.
        valid: [b] bool; the other rows are padding and may hold anything. None: all.

    Returns:
        values: [b] float32, loss of each embedding.
        weights: [b] float32, ones; 0 for padding.

    Raises:
        ValueError: shapes, types or numbers do not fit; or a label is no class, where it can be
            seen. Under `jit` it cannot, and makes its value and weight nan.
    """
    k = centres.shape[:1]
    if centres.shape != k + embeddings.shape[1:]:
        got = f"{embeddings.shape} and {centres.shape}"
        raise ValueError(f"arcface needs embeddings [b, d] and centres [k, d]; got {got}.")
    wanted = "in [0, pi) radians, see math.radians"
    check_number("margin", margin, wanted, lambda m: 0 <= m < math.pi)
    check_number("scale", scale, "> 0", lambda s: s > 0)
    x, labels, valid, _ = check_batch(embeddings, labels, valid)
    labels = jnp.where(valid, labels, 0)
    check_ids("labels", labels, *k)

    unknown = (labels < 0) | (labels >= k[0])
    x, centres = unit_rows(x), unit_rows(centres.astype(jnp.float32))
    cosine = jnp.matmul(x, centres.T, precision=jax.lax.Precision.HIGHEST)
    # The label's angle from |x - c| and |x + c|, twice the sine and cosine of its half: sqrt(1 -
    # cos^2) would leave few digits of small angles, and a gradient of infinity at 0 and pi.
    own = centres[jnp.where(unknown, 0, labels)]
    apart, along = (safe_sqrt(jnp.square(v).sum(-1)) for v in (x - own, x + own))
    cos, sin = (along - apart) * (along + apart) / 4, along * apart / 2
    target = cos * jnp.cos(margin) - sin * jnp.sin(margin)
    target = jnp.where(cos > -jnp.cos(margin), target, cos - margin * jnp.sin(margin))
    hit = labels[:, None] == jnp.arange(*k)
    log_p = jax.nn.log_softmax(scale * jnp.where(hit, target[:, None], cosine))
    weights = jnp.where(unknown, jnp.nan, valid.astype(jnp.float32))
    return weights * jnp.where(hit, -log_p, 0).sum(axis=1), weights
