"""Models as they were trained, from the workdir of a run or as `export` wrote them."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import unflatten_dict
from safetensors import SafetensorError

from zoo.data.checks import explained
from zoo.data.images import File, Preprocess
from zoo.data.info import Info
from zoo.infer.predict import Variables, geometry
from zoo.train import checkpoint, config, fields, logs

CONFIG = "config.json"
PARAMETERS = 1  # Version of the parameters' names; whoever changes any model's raises it.
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
    scores: Mapping[str, Any] | None = None  # Of an export: what `validated` was there.

    def validated(self) -> Mapping[str, Any] | None:
        """The validation scores of this checkpoint by name; None where none were kept."""
        if self.scores is not None or not (self.workdir / logs.METRICS).is_file():
            return self.scores
        wanted = self.step, self.experiment.data.validation_split
        records = logs.read_metrics(self.workdir)
        return next((r for r in records if (r["step"], r["split"]) == wanted), None)

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

    Or from the .safetensors file of an export, or its folder; it holds one checkpoint, whatever
    `which`. Raises ValueError for neither, nothing saved, damaged files, an unknown architecture,
    parameters named by another version, or tensors that do not fit the model.
    """
    path = pathlib.Path(path)
    exported = (path / CONFIG).is_file() and not (path / config.FILE).is_file()
    if exported or path.suffix == ".safetensors":
        file = (path / CONFIG, None) if exported else (path.with_name(CONFIG), path.name)
        name, experiment, info, variables, step, scores = _read_exported(*file)
    else:
        (name, experiment, info), scores = config.read_experiment(path), None
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
    variables = jax.device_put(variables)
    preprocess = Preprocess(info.channels, info.mean, info.std, experiment.data.size)
    return Trained(name, model, variables, preprocess, info, step, path, experiment, scores)


def fingerprint(run: Trained) -> str:
    """Equal for equal models, parameters and preprocessing, wherever they were loaded from."""
    how = fields.encode(run.model, ""), fields.encode(run.preprocess, "")
    mark = hashlib.sha256(json.dumps(how).encode())
    for path, x in jax.tree.leaves_with_path(run.variables):
        mark.update(jax.tree_util.keystr(path).encode() + np.asarray(x).tobytes())
    return mark.hexdigest()


def _read_exported(beside: pathlib.Path, file: str | None) -> tuple:
    """Name, experiment, info, variables, step and scores of an export (`file`), by config.json."""
    hint = "export the model again, by python -m zoo export WORKDIR --format safetensors"
    errors = OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError
    with explained(f"{beside} cannot be read", hint, errors):
        facts: dict[str, Any] = json.loads(beside.read_bytes())
        if (version := facts.pop("parameters")) != PARAMETERS:
            problem = f"its parameters have names of version {version}, not {PARAMETERS}"
            raise ValueError(f"{problem}: use zoo {facts['zoo']}, which wrote it")
        del facts["zoo"]
        step, name, info = (facts.pop(key) for key in ("step", "name", "info"))
        path, mark = beside.with_name(facts.pop("file")), facts.pop("sha256")
        if file not in (None, path.name):
            raise ValueError(f"it belongs to {path.name}, not to {file}")
        scores = facts.pop("scores", None) or None
        experiment, info = config.from_dict(facts), Info.from_dict(info)
    with explained(f"{path} cannot be read", hint, errors):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != mark:
            raise ValueError(f"its sha256 is not that in {CONFIG}")
        variables = unflatten_dict(safetensors.numpy.load(content), sep="/")
    return name, experiment, info, variables, step, scores
