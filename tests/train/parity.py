"""Five SGD steps of a small U-Net on whatever devices there are; run by test_parallel.py.

With border weights, deep supervision and the scores of whole pictures.

As a program: parity.py OUT.npz HOW NORM PROCESSES PORT PROCESS, one of several that share eight
devices.
"""

import sys

import jax
import numpy as np

STEPS, BATCH, SIZE = 5, 8, 16


def batch(step):
    """A global batch whose rows differ in how many pixels are void; one row has no weight."""
    rng = np.random.default_rng(step)
    label = rng.integers(0, 3, (BATCH, SIZE, SIZE)).astype(np.int32)
    for row in range(BATCH):
        label[row, : 2 * row] = 255
    image = rng.normal(size=(BATCH, SIZE, SIZE, 1)).astype(np.float32)
    weight = np.ones(BATCH, np.float32)
    weight[step % BATCH] = 0
    border = 10 * rng.random(label.shape, np.float32)
    return {"image": image, "label": label, "weight": weight, "border": border}


def train(layout, norm, accumulate=1):
    """Parameters, momentum (the gradients), statistics and losses after five steps, on the host."""
    import optax

    from zoo.data.source import Info
    from zoo.models import UNet
    from zoo.train.parallel import to_host
    from zoo.train.segmentation import Segmentation
    from zoo.train.state import create
    from zoo.train.step import make_eval_step, make_train_step

    colours = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    info = Info("test", 3, ("a", "b", "c"), colours, 255, 1, (0.5,), (0.25,))
    task = Segmentation(boundary_tolerance=0.05, membrane=1).bind(info)
    options = {"norm": norm, "dropout_rate": 0.0, "deep_supervision": 1}
    model = UNet(num_classes=3, width=4, depth=2, **options)
    tx = optax.sgd(0.05, momentum=0.9)
    blank = np.zeros((1, SIZE, SIZE, 1), np.float32)
    state = layout.put(create(model, (blank,), tx, seed=0, ema=True))
    shared = any(not x.is_fully_replicated for x in jax.tree.leaves(state))
    assert shared == (layout.how == "fsdp")  # Its caller lowers `parallel.SMALL`.
    model = model.clone(axis_name=layout.axis)
    step = layout.map(
        make_train_step(model, task, tx, ema_decay=0.9, accumulate=accumulate), donate=True
    )
    losses = []
    rows = BATCH // jax.process_count()
    own = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
    for n in range(STEPS):
        state, metrics = step(
            state, layout.split({k: v[own] for k, v in batch(n).items()}, accumulate)
        )
        losses.append(to_host(metrics)["loss"])
    scores = layout.map(make_eval_step(model, task))
    rated = layout.split({k: v[own] for k, v in batch(99).items()})
    sums, rows = to_host(scores(state.variables(), rated))
    trained = to_host(
        {
            "params": state.params,
            "momentum": state.opt_state,
            "stats": state.batch_stats,
            "ema": state.ema,
        }
    )
    return {**trained, "sums": sums, "rows": rows, "row_sums": task.row_sums(rows)}, losses


if __name__ == "__main__":
    out, how, norm, count, port, process = sys.argv[1:]
    jax.distributed.initialize(
        f"localhost:{port}", num_processes=int(count), process_id=int(process)
    )
    from zoo.train import parallel

    parallel.SMALL = 64  # Or "fsdp" would leave all of so small a network whole.
    tree, losses = train(parallel.Layout(how), None if norm == "None" else norm)
    np.savez(out, *jax.tree.leaves(tree), losses=losses)
