"""Five SGD steps by each loss of embeddings, and scores, on whatever devices there are.

Run by test_embedding.py; as a program: embedding_parity.py OUT.npz HOW PROCESSES PORT PROCESS, one
of several that share 8 devices.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

STEPS, BATCH, SIDE = 5, 16, 4
LOSSES = {  # A name of zoo.losses, perhaps with a word behind, and its options.
    "batch_all_triplet": {"margin": 0.3},
    "batch_all_triplet squared": {"margin": 0.3, "squared": True},
    "batch_hard_triplet": {"margin": 0.3},
    "batch_hard_triplet squared": {"margin": 0.3, "squared": True},
    "batch_hard_triplet soft": {"margin": 0.3, "soft": True},
    "batch_semi_hard_triplet": {"margin": 0.3},
    "batch_semi_hard_triplet squared": {"margin": 0.3, "squared": True},
    "multi_similarity": {},
    "supervised_contrastive": {"temperature": 0.3},
    "contrastive": {"margin": 0.5},
    "triplet": {"margin": 0.3},
    "pair_cross_entropy": {},
}
SCORED = ("batch_all_triplet", "pair_cross_entropy")  # By distance, and by a network's verdict.


class Points(nn.Module):
    """Quick to compile; convolutions and batch norm are in parity.py."""

    @nn.compact
    def __call__(self, image, *, train=False):
        return nn.Dense(4)(jnp.tanh(nn.Dense(8)(image.reshape(len(image), -1))))


def batch(step, width):
    """A global batch whose devices hold unequally many of each class; two rows are padding."""
    rng = np.random.default_rng(step)
    label = np.sort(rng.integers(-2, 3, (BATCH, width)).astype(np.int32), axis=0)
    image = rng.normal(size=(BATCH, width, SIDE, SIDE, 1)).astype(np.float32)
    weight = np.ones(BATCH, np.float32)
    weight[[step, 9]] = 0
    return {"image": image, "label": label, "weight": weight}


def train(layout, loss):
    """Parameters, momentum (the gradients) and losses after five steps, on the host."""
    import optax

    from zoo.data.info import Info
    from zoo.models import SiameseVerifier
    from zoo.train.embedding import Embedding
    from zoo.train.parallel import to_host
    from zoo.train.state import create
    from zoo.train.step import make_train_step

    info = Info("test", 5, tuple("abcde"), channels=1, mean=(0.5,), std=(0.25,))
    task = Embedding(loss=loss.split()[0], options=LOSSES[loss]).bind(info)
    width = {"classes": 1, "triplets": 3}.get(task.kind, 2)
    model = SiameseVerifier(Points()) if task.kind == "verdicts" else Points()
    tx = optax.sgd(0.05, momentum=0.9)
    blank = np.zeros((1, SIDE, SIDE, 1), np.float32)
    inputs = (blank,) * (2 if task.kind == "verdicts" else 1)
    state = layout.put(create(model, inputs, tx, seed=0, ema=False))
    step = layout.map(make_train_step(model, task, tx), donate=True)
    metrics = []
    rows = BATCH // jax.process_count()
    own = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
    for n in range(STEPS):
        part = {k: v[own] for k, v in batch(n, width).items()}
        state, found = step(state, layout.split(part))
        metrics.append(to_host(found))
    return to_host({"params": state.params, "momentum": state.opt_state}), metrics


def scores(layout, loss):
    """Of real digits, as the network begins; the last batch is short."""
    from experiments.datasets import Digits8x8
    from zoo.data.config import Data
    from zoo.models import SiameseVerifier
    from zoo.train.config import Experiment, Optimizer
    from zoo.train.embedding import Embedding
    from zoo.train.run import Run

    task = Embedding(loss=loss, options=LOSSES[loss])
    model = SiameseVerifier(Points()) if loss == "pair_cross_entropy" else Points()
    data = Data(name=Digits8x8.name, batch_size=BATCH, options={"held_out": "7,8,9"})
    rule = Optimizer(name="sgd", learning_rate=0.05)
    run = Run(Experiment(task=task, model=model, data=data, optimizer=rule, steps=1), layout)
    variables = layout.put(run.initial_state()).variables()
    return run.task.scores(run.task.results(run, variables, "test"))


if __name__ == "__main__":
    out, how, count, port, process = sys.argv[1:]
    jax.distributed.initialize(
        f"localhost:{port}", num_processes=int(count), process_id=int(process)
    )
    from zoo.train.parallel import Layout

    found = {}
    for loss in LOSSES:
        leaves = jax.tree.leaves(train(Layout(how), loss))
        found |= {f"{loss}{i:04d}": leaf for i, leaf in enumerate(leaves)}
    for loss in SCORED:
        found |= {f"scores {loss} {k}": v for k, v in scores(Layout(how), loss).items()}
    np.savez(out, **found)
