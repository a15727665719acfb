"""The Jaccard loss of sets of pixels, carried over to probabilities by its Lovász extension."""

import jax
import jax.numpy as jnp

from zoo.losses.pixel import known_pixels


def lovasz_softmax(
    logits: jax.Array, labels: jax.Array, *, ignore_label: int = 255
) -> tuple[jax.Array, jax.Array]:
    """The Lovász-Softmax loss of each image, the mean over the classes that its truth holds.

    Berman, Triki & Blaschko, "The Lovász-Softmax Loss: A Tractable Surrogate for the Optimization
    of the Intersection-Over-Union Measure in Neural Networks", CVPR 2018. A class whose truth is
    the set T and whose mispredicted pixels are M has the Jaccard loss |M| / |T u M|. A pixel's
    error is 1 - p in T, else p, the softmax. Taken in falling order, each error is multiplied by
    what its pixel adds to the loss of those before it, as if they were M.

    Returns:
        values: [b] float32, in 0..1, already multiplied by the weights.
        weights: [b] float32, ones; 0 where an image is all void.

    Arguments and raises: see `pixel_cross_entropy`.
    """
    logits, hit, counts = known_pixels(logits, labels, ignore_label)
    p = jax.nn.softmax(logits, axis=-1)
    weights = jnp.sign(counts.sum(axis=(1, 2)))  # nan stays nan.
    errors = _rows(counts[..., None] * jnp.where(hit, 1.0 - p, p))
    used = counts[..., None] != 0
    inside = _rows(hit & used)
    # The steps hardly depend on the errors (their order alone): constants to the gradient.
    steps = _jaccard_steps(jax.lax.stop_gradient(errors), inside, _rows(~hit & used))
    held = inside.any(axis=-1)
    losses = jnp.where(held, (errors * steps).sum(axis=-1), 0.0)
    return weights * losses.sum(axis=-1) / jnp.maximum(held.sum(axis=-1), 1), weights


def _rows(x: jax.Array) -> jax.Array:
    """[b, h, w, k] -> [b, k, h * w]: each image and class one row, to be sorted."""
    return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], x.shape[-1], -1)


def _jaccard_steps(errors: jax.Array, inside: jax.Array, outside: jax.Array) -> jax.Array:
    """What each pixel adds to |M| / |T u M| when M grows in the order of falling errors.

    [b, k, n] -> [b, k, n]. A pixel that is neither in T nor outside adds nothing.
    """
    order = jnp.argsort(-errors, axis=-1)
    inside, outside = (jnp.take_along_axis(x, order, axis=-1) for x in (inside, outside))
    size = inside.sum(axis=-1, keepdims=True)
    right = (size - jnp.cumsum(inside, axis=-1)).astype(jnp.float32)
    union = (size + jnp.cumsum(outside, axis=-1)).astype(jnp.float32)
    # The loss is 1 - right / union. Its steps are written out, as the difference of two losses
    # would keep few digits: a step is about 1 / n. Divisors are 0 only for an empty T.
    steps = jnp.where(outside, right, 0.0) / jnp.maximum(union - 1.0, 1.0)
    steps = jnp.where(inside, 1.0, steps) / jnp.maximum(union, 1.0)
    # Back in the order of the pixels by a second sort: the gradient of a gather is a scatter.
    return jnp.take_along_axis(steps, jnp.argsort(order, axis=-1), axis=-1)
