"""What training carries from step to step, and nothing else."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


@flax.struct.dataclass
class TrainState:
    """A pytree of arrays; with the seed and `step` it decides all that follows."""

    step: jax.Array  # [] int32, the steps taken.
    params: Any  # Float32.
    batch_stats: Any  # Running statistics of batch norm; {} where a model has none.
    opt_state: Any
    ema: Any  # Running average of params, or None.

    def variables(self) -> dict[str, Any]:
        """The variables to predict with: averaged parameters where they are kept."""
        params = self.params if self.ema is None else self.ema
        return {"params": params, **({"batch_stats": self.batch_stats} if self.batch_stats else {})}


def create(
    model: nn.Module, inputs: tuple, tx: optax.GradientTransformation, *, seed: int, ema: bool
) -> TrainState:
    """The state before the first step; `ema`: whether a running average of parameters is kept.

    `inputs` is what `model` is called with, of the shapes and dtypes it will meet.
    """
    # Run once: compiled without optimization it is ready in a third of the time.
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": "0"})
    variables = init(jax.random.key(seed), *inputs)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        # A copy: a donated buffer must not stand in the state twice.
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )
