"""A workdir of an embedding run, for tests of what uses one; nothing is trained."""

import json

import jax
import numpy as np

from zoo.data.config import Data
from zoo.data.info import Info
from zoo.models import SiameseEncoder, SiameseVerifier
from zoo.train import config
from zoo.train.checkpoint import Checkpoints
from zoo.train.embedding import Embedding
from zoo.train.state import TrainState

INFO = Info("glyphs", 2, ("a", "b"), channels=1, mean=(0.5,), std=(0.25,))
ENCODER = SiameseEncoder(features=5, width=4)
THRESHOLD, RATE = 0.5, 0.125  # Of validation at step 1; step 2 was never evaluated.


def write(workdir, *, judge=False, model=None, size=None):
    """Step 1 has the best score, step 2 is the latest. Returns the model and step 1's variables."""
    model = model or (SiameseVerifier(ENCODER) if judge else ENCODER)
    task = Embedding(loss="pair_cross_entropy" if judge else "contrastive", headline="roc_auc")
    experiment = config.Experiment(
        task=task,
        model=model,
        data=Data(name="glyphs", size=size),
        optimizer=config.Optimizer(name="sgd", learning_rate=0.1),
        steps=2,
    )
    config.write_experiment(workdir, "glyphs", experiment, INFO)
    blank = np.zeros((1, *(size or (8, 8)), 1), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *[blank] * (1 + judge))
    rng = np.random.default_rng(0)
    checkpoints, kept = Checkpoints(workdir), []
    for step in (1, 2):
        drawn = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)
        kept.append(drawn)
        state = TrainState(np.int32(step), drawn["params"], drawn.get("batch_stats", {}), (), None)
        checkpoints.save(state, {"best": {"step": 1, "score": 0.9}, "stale": step - 1})
    checkpoints.close()
    scores = {"eer_threshold": THRESHOLD, "eer_threshold_far": RATE, "tar_at_far_0.1": None}
    line = {"step": 1, "split": "validation", **scores}
    (workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return model, kept[0]
