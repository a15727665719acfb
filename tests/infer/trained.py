"""A workdir as training leaves it, for tests of what uses one; nothing is trained."""

import jax
import numpy as np

from zoo.data.config import Data
from zoo.data.info import Info
from zoo.models import UNet
from zoo.train import config
from zoo.train.checkpoint import Checkpoints
from zoo.train.segmentation import Segmentation
from zoo.train.state import TrainState

COLOURS = ((0, 0, 0), (255, 0, 0), (0, 128, 255))
INFO = Info("shapes", 3, ("ground", "disc", "square"), COLOURS, 255, 3, (0.5,) * 3, (0.25,) * 3)


def variables(model, seed):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(seed)

    def draw(leaf):
        inputs = np.prod(leaf.shape[:-1])  # 1 for biases.
        return rng.normal(0, np.sqrt(2 / inputs), leaf.shape).astype(np.float32)

    drawn = jax.tree.map(draw, shapes)
    if "batch_stats" in drawn:
        drawn["batch_stats"] = jax.tree.map(np.abs, drawn["batch_stats"])  # Variances are >= 0.
    return drawn


def write(workdir, *, model=None, ema=False, size=None):
    """Step 1 has the best score and the variables of seed 1, step 2 is the latest, of seed 2.

    With `ema` the averages are those of seed 10 + step. Returns the model.
    """
    model = model or UNet(num_classes=3, width=4, depth=1)
    experiment = config.Experiment(
        task=Segmentation(),
        model=model,
        data=Data(name="shapes", size=size),
        optimizer=config.Optimizer(name="sgd", learning_rate=0.1),
        steps=2,
    )
    config.write_experiment(workdir, "shapes_unet", experiment, INFO)
    checkpoints = Checkpoints(workdir)
    for step in (1, 2):
        drawn = variables(model, step)
        state = TrainState(
            step=np.int32(step),
            params=drawn["params"],
            batch_stats=drawn.get("batch_stats", {}),
            opt_state={"momentum": np.ones(1, np.float32)},
            ema=variables(model, 10 + step)["params"] if ema else None,
        )
        checkpoints.save(state, {"best": {"step": 1, "score": 0.9}, "stale": step - 1})
    checkpoints.close()
    return model
