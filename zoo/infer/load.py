"""Models as they were trained, from the workdir of a run."""

import dataclasses
import os
import pathlib
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
    workdir: pathlib.Path
    experiment: config.Experiment

    def check(self, task: type) -> None:
        """Raises ValueError where the run was not trained for that task."""
        own = self.experiment.task
        if not isinstance(own, task):
            names = [t.__name__.lower() for t in (type(own), task)]
            raise ValueError(
                f"{self.workdir} was trained for {names[0]}, but this needs a run of {names[1]}; "
                f"give the workdir of one."
            )


def load(
    path: str | os.PathLike, *, which: Literal["best", "latest"] = "best"
) -> tuple[nn.Module, Mapping[str, Any]]:
    """As `load_run`: the model, and variables so that `model.apply(variables, image)` predicts."""
    run = load_run(path, which=which)
    return run.model, run.variables


def load_run(path: str | os.PathLike, *, which: Literal["best", "latest"] = "best") -> Trained:
    """A trained model with what its pictures and ids mean.

    Raises ValueError for no workdir, nothing saved, damaged files, or a checkpoint that does not
    fit the model in experiment.json.

    Args:
        path: a workdir, as training left it.
        which: the checkpoint of the best validation score, or the latest.
    """
    name, experiment, info = config.read_experiment(path)
    variables, step = checkpoint.load_variables(path, which=which)
    model = experiment.model
    size = experiment.data.size or experiment.data.crop
    if hasattr(model, "num_classes"):
        size = (input_side(model, info.channels),) * 2
    if size is not None:  # Else only the pictures tell, and the first one will.
        image = jax.ShapeDtypeStruct((1, *size, info.channels), jnp.float32)
        inputs = [image] * (2 if hasattr(model, "verdict") else 1)  # It compares two pictures.
        fresh = jax.eval_shape(model.init, jax.random.key(0), *inputs)
        checkpoint.check_fits(fresh, variables, path)
    return Trained(
        name=name,
        model=model,
        variables=jax.device_put(variables),
        preprocess=Preprocess(info.channels, info.mean, info.std, experiment.data.size),
        info=info,
        step=step,
        workdir=pathlib.Path(path),
        experiment=experiment,
    )
