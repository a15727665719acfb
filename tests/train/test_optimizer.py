"""Schedules by hand count; rules against PyTorch's."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.train.config import Optimizer
from zoo.train.optimizer import optimizer, schedule


def test_constant_with_warm_up_climbs_in_equal_steps():
    rate = schedule(Optimizer(name="sgd", learning_rate=1.0, warmup_steps=4), 10)
    np.testing.assert_allclose(
        [rate(t) for t in range(6)], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("fields", "curve"),
    [
        ({"schedule": "cosine"}, lambda t: (1 + np.cos(np.pi * t / 8)) / 2),
        ({"schedule": "polynomial", "power": 0.9}, lambda t: (1 - t / 8) ** 0.9),
        (
            {"schedule": "exponential", "decay_rate": 0.5, "decay_steps": 4},
            lambda t: 0.5 ** (t / 4),
        ),
    ],
)
@pytest.mark.parametrize("warmup", [0, 2])
def test_decay_runs_over_what_the_warm_up_leaves(fields, curve, warmup):
    config = Optimizer(name="sgd", learning_rate=2.0, warmup_steps=warmup, **fields)
    rate = schedule(config, 8 + warmup)
    for t in range(9):
        np.testing.assert_allclose(rate(t + warmup), 2.0 * curve(t), atol=1e-6)


TORCH = {
    "sgd": ({"momentum": 0.9}, "SGD", {"momentum": 0.9}),
    "adam": ({}, "Adam", {}),
    "adamw": ({}, "AdamW", {}),
    "rmsprop": ({"decay": 0.5}, "RMSprop", {"alpha": 0.5}),
}


@pytest.mark.parametrize("name", TORCH)
def test_rules_equal_torch_and_decay_spares_biases(name):
    torch = pytest.importorskip("torch", reason="peers not installed")
    ours, theirs, options = TORCH[name]
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}
    gradients = [{k: rng.normal(size=v.shape) for k, v in start.items()} for _ in range(5)]

    config = Optimizer(name=name, learning_rate=0.01, weight_decay=0.1, **ours)
    tx = optimizer(config, schedule(config, 5))
    params = {k: jnp.asarray(v, jnp.float32) for k, v in start.items()}
    state = tx.init(params)
    for gradient in gradients:
        gradient = {k: jnp.asarray(v, jnp.float32) for k, v in gradient.items()}
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)

    twin = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in start.items()}
    groups = [
        {"params": [twin["kernel"]], "weight_decay": 0.1},
        {"params": [twin["bias"]], "weight_decay": 0.0},
    ]
    rule = getattr(torch.optim, theirs)(groups, lr=0.01, **options)
    for gradient in gradients:
        for k, v in gradient.items():
            twin[k].grad = torch.tensor(v)
        rule.step()
    for k, v in params.items():
        np.testing.assert_allclose(v, twin[k].detach().numpy(), rtol=2e-5, atol=1e-6)


def test_clipping_bounds_the_norm_over_all_leaves():
    config = Optimizer(name="sgd", learning_rate=1.0, momentum=0.0, clip_norm=1.0)
    tx = optimizer(config, schedule(config, 1))
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    updates, _ = tx.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, tx.init(params), params)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-0.6, -0.8], rtol=1e-6)
