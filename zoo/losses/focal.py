"""Cross-entropy that turns from the pixels it has right."""

import jax
import jax.numpy as jnp

from zoo.losses.pixel import Weights, known_pixels, per_class_weights
from zoo.ops.labels import check_number


def focal(
    logits: jax.Array,
    labels: jax.Array,
    *,
    ignore_label: int = 255,
    gamma: float = 2.0,
    class_weights: Weights = None,
) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy of each pixel, times the probability of all other classes ^ gamma.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. With p the probability of the
    pixel's class, Eq. 5 is

        -alpha (1 - p)^gamma log p

    and alpha the class's weight. The paper's p is the sigmoid of one of two classes, here it is
    the softmax. `mean` divides by the weights, as it does for `pixel_cross_entropy`, which this is
    with gamma 0; it does not divide by the powers.

    Args:
        gamma: at least 0; 2 is the paper's.

    Other arguments, returns and raises: see `pixel_cross_entropy`.
    """
    check_number("gamma", gamma, ">= 0", lambda g: g >= 0)
    logits, hit, counts = known_pixels(logits, labels, ignore_label)
    per_class = per_class_weights(class_weights, logits.shape[-1])
    weights = counts * jnp.where(hit, per_class, 0.0).sum(axis=-1)
    log_p = jnp.where(hit, jax.nn.log_softmax(logits), 0.0).sum(axis=-1)
    others = -jnp.expm1(log_p)
    # Where p is 1, log p is 0 and so is the loss; a power below 1 has a gradient of inf there.
    sure = others == 0
    power = jnp.where(sure, 0.0, jnp.where(sure, 1.0, others) ** gamma)
    return weights * power * -log_p, weights
