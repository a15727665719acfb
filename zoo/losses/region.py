"""Losses of regions: how far the pixels given to a class overlap those of its truth.

All are one ratio (`overlap_loss`) of three sums (`overlap_sums`). `dice`, `jaccard` and `tversky`
take it image by image. Over a batch, also one spread over devices, add the sums first:

    sums = overlap_sums(logits, labels).sum(axis=0)
    loss = mean(*overlap_loss(jax.lax.psum(sums, "devices"), alpha=0.5, beta=0.5))

There the gradient of each device's logits is `jax.vjp` of its sums, pulled back from the gradient
of the loss by the total: what `jax.grad` makes of a `psum` within the map is a count too large.
"""

import jax
import jax.numpy as jnp

from zoo.losses.pixel import known_pixels
from zoo.ops.labels import check_number


def dice(
    logits: jax.Array, labels: jax.Array, *, ignore_label: int = 255, smooth: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """1 - 2 |P & T| / (|P| + |T|) of each image and class: `tversky` with both weights 1/2.

    Drozdzal et al., "The Importance of Skip Connections in Biomedical Image Segmentation",
    arXiv:1608.04117, plus 1. Milletari et al., arXiv:1606.04797, square the terms of the divisor;
    they are not squared here. Arguments, returns and raises: see `tversky`.
    `smooth` there stands beside |P & T|, so it is twice that in this form.
    """
    sums = overlap_sums(logits, labels, ignore_label=ignore_label)
    return overlap_loss(sums, alpha=0.5, beta=0.5, smooth=smooth)


def jaccard(
    logits: jax.Array, labels: jax.Array, *, ignore_label: int = 255, smooth: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """1 - |P & T| / |P | T| of each image and class: `tversky` with both weights 1.

    Rahman & Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation", ISVC 2016. Arguments, returns and raises: see `tversky`.
    """
    sums = overlap_sums(logits, labels, ignore_label=ignore_label)
    return overlap_loss(sums, alpha=1.0, beta=1.0, smooth=smooth)


def tversky(
    logits: jax.Array,
    labels: jax.Array,
    *,
    ignore_label: int = 255,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """1 - the Tversky index of each image and class, with softmax probabilities for pixels.

    Salehi, Erdogmus & Gholipour, "Tversky Loss Function for Image Segmentation Using 3D Fully
    Convolutional Deep Networks", MLMI 2017, with their best weights as default; each class in
    turn is the paper's lesion, all others together its background.

    A class without a pixel in the image's truth has value and weight 0, and so has every class of
    an image of void: there the index is 0 whatever the network says, or undefined. What falls to
    such a class is missed by the others.

    Args:
        logits, labels, ignore_label: as of `pixel_cross_entropy`.
        alpha: at least 0, weighs what is wrongly given to the class.
        beta: above 0, weighs what the class misses.
        smooth: at least 0, in pixels, is added to both parts of the index.

    Returns:
        values: [b, k] float32, in 0..1, already multiplied by the weights.
        weights: [b, k] float32, 1 where the image's truth holds the class, else 0.

    Raises:
        ValueError: a shape, type or option is impossible, or a label is neither class nor void.
            Under `jit` labels cannot be seen: such a one makes its image's values and weights nan.
    """
    sums = overlap_sums(logits, labels, ignore_label=ignore_label)
    return overlap_loss(sums, alpha=alpha, beta=beta, smooth=smooth)


def overlap_sums(logits: jax.Array, labels: jax.Array, *, ignore_label: int = 255) -> jax.Array:
    """What each class rightly takes, wrongly takes and misses in each image, in pixels.

    With p the softmax and y the one-hot truth: the sums over the pixels that are not void of p y,
    p (1 - y) and (1 - p) y. They may be added over images and devices.

    Args, Raises: as `tversky`.

    Returns:
        [b, 3, k] float32, >= 0; nan for an image with a label that is neither class nor void.
    """
    logits, hit, counts = known_pixels(logits, labels, ignore_label)
    p = jax.nn.softmax(logits, axis=-1)
    # Products with counts, which bring its nan to all classes.
    counts = counts[..., None]
    parts = jnp.where(hit, p, 0.0), jnp.where(hit, 0.0, p), jnp.where(hit, 1.0 - p, 0.0)
    return jnp.stack([(counts * part).sum(axis=(1, 2)) for part in parts], axis=1)


def overlap_loss(
    sums: jax.Array, *, alpha: float, beta: float, smooth: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """1 - (right + smooth) / (right + alpha wrong + beta missed + smooth), the Tversky loss.

    Args:
        sums: [..., 3, k] float, right, wrong and missed as `overlap_sums` has them, or their sum.
        alpha, beta, smooth: as of `tversky`; 1/2 and 1/2 is Dice, 1 and 1 Jaccard.

    Returns:
        values: [..., k] float32, in 0..1, already multiplied by the weights.
        weights: [..., k] float32, 1 where the truth holds the class, else 0.

    Raises:
        ValueError: the shape does not fit, or a number is out of its range.
    """
    if sums.ndim < 2 or sums.shape[-2] != 3:
        raise ValueError(f"overlap_loss needs sums [..., 3, k] of overlap_sums; got {sums.shape}.")
    check_number("beta", beta, "> 0", lambda x: x > 0)
    for name, number in {"alpha": alpha, "smooth": smooth}.items():
        check_number(name, number, ">= 0", lambda x: x >= 0)
    right, wrong, missed = jnp.moveaxis(sums.astype(jnp.float32), -2, 0)
    weights = jnp.sign(right + missed)  # The class's pixels; nan stays nan.
    lost = alpha * wrong + beta * missed
    # Not 1 - index: that would lose the digits of a small loss. Masked before the division.
    divisor = jnp.where(weights == 0, 1.0, right + lost + smooth)
    return jnp.where(weights == 0, 0.0, lost) / divisor, weights
