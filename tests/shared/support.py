"""What many tests use; they import it as `support` (pyproject.toml puts its folder on the path)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def equal(got, want, tolerance=1e-5, message=""):
    """DESIGN's "equal to t"."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max(), message


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal noise, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def initialised(model, image, seed: int = 0):
    """Variables drawn by NumPy (`init` takes seconds to compile); none is at a trivial 0 or 1."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if leaf.ndim > 1:
            value = rng.normal(0.0, np.sqrt(2 / np.prod(leaf.shape[:3])), leaf.shape)
        else:
            low, high = {"scale": (0.8, 1.2), "var": (0.8, 1.2)}.get(path[-1].key, (0.05, 0.3))
            value = rng.uniform(low, high, leaf.shape)
        return jnp.asarray(value, leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def descend(loss, params, *, rate: float, steps: int):
    """The parameters after so many steps of Adam down `loss(params)`, and its values on the way."""
    tx = optax.adam(rate)

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    start = params, tx.init(params)
    (params, _), losses = jax.jit(lambda start: jax.lax.scan(step, start, length=steps))(start)
    return params, losses
