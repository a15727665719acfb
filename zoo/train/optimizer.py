"""The Optax chain and its learning-rate schedule, from an experiment's `Optimizer`."""

import functools

import jax
import optax

from zoo.train.config import Optimizer


def schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """Learning rate at a step (0 is the first), for a run of `steps` steps.

    A linear warm-up over `warmup_steps`, then over the steps that are left: constant; cosine to 0;
    exponential (times `decay_rate` every `decay_steps`, smooth); or polynomial (1 - t/T)^power.
    """
    left, peak = max(steps - config.warmup_steps, 1), config.learning_rate
    after = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, left),
        "exponential": optax.exponential_decay(peak, config.decay_steps, config.decay_rate),
        "polynomial": optax.polynomial_schedule(peak, 0.0, config.power, left),
    }[config.schedule]
    if config.warmup_steps == 0:
        return after
    # Not from 0: a step that moves nothing is a step lost.
    warm = optax.linear_schedule(peak / (config.warmup_steps + 1), peak, config.warmup_steps)
    return optax.join_schedules([warm, after], [config.warmup_steps])


def optimizer(config: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
    """Clipping by global norm, weight decay, then the named rule.

    AdamW's decay is decoupled from the gradient (Loshchilov & Hutter, ICLR 2019); for the
    others it is added to the gradient, as the L2 penalty `weight_decay / 2 |w|^2` does.
    """
    # Weight decay shrinks kernels alone. Biases and the scales of norms are vectors; shrinking them
    # costs accuracy and regularises nothing (He et al., "Bag of Tricks", CVPR 2019, section 3.1).
    decayed = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
    rules = {
        "sgd": optax.sgd(rate, momentum=config.momentum or None),
        "adam": optax.adam(rate),
        "adamw": optax.adamw(rate, weight_decay=config.weight_decay, mask=decayed),
        "rmsprop": optax.rmsprop(rate, decay=config.decay, eps=1e-8),
    }
    norm, decay = config.clip_norm, config.weight_decay if config.name != "adamw" else 0
    clip = [] if norm is None else [optax.clip_by_global_norm(norm)]
    shrink = [optax.add_decayed_weights(decay, mask=decayed)] if decay else []
    return optax.chain(*clip, *shrink, rules[config.name])
