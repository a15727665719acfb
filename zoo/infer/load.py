"""Models as they were trained, from the workdir of a run."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.data.images import Preprocess
from zoo.data.info import Info
from zoo.infer.predict import input_side
from zoo.train import checkpoint, config


@dataclasses.dataclass(frozen=True)
class Trained:
    """All that a trained model needs to be used."""

    name: str  # Of the experiment.
    model: nn.Module
    variables: Mapping[str, Any]  # On the default device.
    preprocess: Preprocess
    info: Info  # What the class ids mean.
    step: int  # Of the checkpoint.


def load(
    path: str | os.PathLike, *, which: Literal["best", "latest"] = "best"
) -> tuple[nn.Module, Mapping[str, Any]]:
    """The model of a workdir and its variables: `model.apply(variables, image)` gives logits.

    Raises:
        ValueError: as `load_run`.
    """
    run = load_run(path, which=which)
    return run.model, run.variables


def load_run(path: str | os.PathLike, *, which: Literal["best", "latest"] = "best") -> Trained:
    """A trained model with what its pictures and ids mean.

    Args:
        path: a workdir, as training left it.
        which: the checkpoint of the best validation score, or the latest.

    Raises:
        ValueError: no workdir, nothing saved, damaged files, or a checkpoint that does not fit the
            model in experiment.json.
    """
    name, experiment, info = config.read_experiment(path)
    variables, step = checkpoint.load_variables(path, which=which)
    model = experiment.model
    side = input_side(model, info.channels)
    image = jax.ShapeDtypeStruct((1, side, side, info.channels), jnp.float32)
    fresh = jax.eval_shape(model.init, jax.random.key(0), image)
    checkpoint.check_fits(fresh, variables, path)
    return Trained(
        name=name,
        model=model,
        variables=jax.device_put(variables),
        preprocess=Preprocess(info.channels, info.mean, info.std, experiment.data.size),
        info=info,
        step=step,
    )
