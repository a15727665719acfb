"""Batch-all triplets beside batch-hard and pytorch-metric-learning's. Needs the extra `peers`.

python -m experiments.bench [--classes 512] [--repeats 5]
Each library runs in a child process of its own; the rounds alternate; times are medians (min-max)
in seconds of value-and-gradient after a first call; torch has as many threads as there are cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

MARGIN, K, D = 0.2, 8, 128


def batch(classes: int):
    """Noisy points of `classes` x K, of length 1: [b, D] float32 and labels [b]."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), K).astype(np.int32)
    x = rng.normal(size=(classes, D))[labels] + rng.normal(size=(classes * K, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def ours(classes: int):
    """What to run, by name, and facts to print."""
    import jax

    from zoo.losses import batch_all_triplet, batch_hard_triplet, mean

    x, labels = batch(classes)
    runs, facts = {}, {"jax": jax.__version__}
    for loss in (batch_all_triplet, batch_hard_triplet):
        f = jax.jit(jax.value_and_grad(lambda x, y, loss=loss: mean(*loss(x, y, margin=MARGIN))))
        f = f.lower(x, labels).compile()
        facts[f"{loss.__name__} temporaries MiB"] = f.memory_analysis().temp_size_in_bytes / 2**20
        runs[loss.__name__] = lambda f=f: float(jax.block_until_ready(f(x, labels))[0])
    return runs, facts


def theirs(classes: int):
    """As `ours`; its mean is over the same triplets, those of positive loss."""
    import importlib.metadata

    import torch
    from pytorch_metric_learning import distances, losses

    torch.set_num_threads(os.cpu_count())
    x, labels = map(torch.from_numpy, batch(classes))
    x.requires_grad_()
    loss = losses.TripletMarginLoss(
        MARGIN, distance=distances.LpDistance(normalize_embeddings=False)
    )

    def run():
        x.grad = None
        value = loss(x, labels.long())
        value.backward()
        return value.item()

    version = importlib.metadata.version("pytorch-metric-learning")
    return {"pml": run}, {"torch": torch.__version__, "pytorch-metric-learning": version}


def child(which: str, classes: int) -> None:
    """Prints facts and values, then times each run once for every line of stdin."""
    runs, facts = {"ours": ours, "theirs": theirs}[which](classes)
    values = {name: run() for name, run in runs.items()}
    print(json.dumps({"facts": facts, "values": values}), flush=True)
    for _ in sys.stdin:
        times = {}
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name] = time.perf_counter() - start
        print(json.dumps(times), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        child(options.child, options.classes)
        return
    children, facts, values = {}, {}, {}
    for which in ("ours", "theirs"):
        command = [sys.executable, __file__, "--child", which, "--classes", str(options.classes)]
        limit = f"ulimit -v {20 * 2**20}; exec " + " ".join(command)
        children[which] = subprocess.Popen(
            ["bash", "-c", limit], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = children[which].stdout.readline()
        if not line:
            print(f"{which} died at {options.classes} classes (20 GiB of address space)")
            del children[which]
            continue
        first = json.loads(line)
        facts |= first["facts"]
        values |= first["values"]
    times = {}
    for _ in range(options.repeats):
        for process in children.values():
            process.stdin.write("go\n")
            process.stdin.flush()
            line = process.stdout.readline()
            for name, seconds in (json.loads(line) if line else {}).items():
                times.setdefault(name, []).append(seconds)
    for process in children.values():
        process.stdin.close()
        process.wait()
    median = {name: statistics.median(all_) for name, all_ in times.items()}
    mine = median["batch_all_triplet"]
    if "pml" in median:
        print(f"batch-all is {median['pml'] / mine:.1f} times as fast as pytorch-metric-learning")
    print(f"batch-all takes {mine / median['batch_hard_triplet']:.2f} times batch-hard's time")
    for name, all_ in times.items():
        spread = f"({min(all_):.3f}-{max(all_):.3f})"
        print(f"{name:20s} {median[name]:8.3f} s {spread}  value {values[name]:.7f}")
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"B = {options.classes * K}, K = {K}, d = {D}, {os.cpu_count()} cores, load {load}")
    print(facts)


if __name__ == "__main__":
    main()
