"""Models as they were trained, from the workdir of a run."""

import dataclasses
import pathlib
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.data.images import File, Preprocess
from zoo.data.info import Info
from zoo.infer.predict import Variables, geometry
from zoo.train import checkpoint, config

Which = Literal["best", "latest"]  # Checkpoint: of the best validation score, or the newest.


@dataclasses.dataclass(frozen=True)
class Trained:
    """All that a trained model needs to be used."""

    name: str  # Of the experiment.
    model: nn.Module
    variables: Variables  # On the default device.
    preprocess: Preprocess
    info: Info  # What the class ids mean.
    step: int  # Of the checkpoint.
    workdir: pathlib.Path
    experiment: config.Experiment

    def check(self, task: type) -> None:
        """Raises ValueError where the run was not trained for that task."""
        own = self.experiment.task
        if not isinstance(own, task):
            was, wanted = (t.__name__.lower() for t in (type(own), task))
            problem = f"{self.workdir} was trained for {was}, but this needs a run of {wanted}"
            raise ValueError(f"{problem}; give the workdir of one.")


def load(path: File, *, which: Which = "best") -> tuple[nn.Module, Variables]:
    """As `load_run`: the model, and variables so that `model.apply(variables, image)` predicts."""
    run = load_run(path, which=which)
    return run.model, run.variables


def load_run(path: File, *, which: Which = "best") -> Trained:
    """A trained model with what its pictures and ids mean, from a workdir as training left it.

    Raises ValueError for no workdir, nothing saved, damaged files, or a checkpoint that does not
    fit the model in experiment.json.
    """
    name, experiment, info = config.read_experiment(path)
    variables, step = checkpoint.load_variables(path, which=which)
    model = experiment.model
    size = experiment.data.size or experiment.data.crop
    if hasattr(model, "num_classes"):
        size = (geometry(model, info.channels).legal,) * 2
    if size is not None:  # Else only the pictures tell, and the first one will.
        image = jax.ShapeDtypeStruct((1, *size, info.channels), jnp.float32)
        inputs = [image] * (2 if hasattr(model, "verdict") else 1)  # It compares two pictures.
        fresh = jax.eval_shape(model.init, jax.random.key(0), *inputs)
        checkpoint.check_fits(fresh, variables, path)
    variables, workdir = jax.device_put(variables), pathlib.Path(path)
    preprocess = Preprocess(info.channels, info.mean, info.std, experiment.data.size)
    return Trained(name, model, variables, preprocess, info, step, workdir, experiment)
