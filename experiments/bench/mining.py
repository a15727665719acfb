"""Every loss that finds its pairs or triplets in the batch, beside pytorch-metric-learning's.

Value and gradient by P x 8 embeddings of 128 dimensions, of length 1, noisy enough that there is
much to mine. Both sides compute the same number, which bench.json keeps. Each has a limit of
address space: what does not fit is reported, and stops no other row.
"""

import os

from experiments.bench.row import OURS, Case, Row, Side, jax_facts

MARGIN, K, D = 0.2, 8, 128
LIMIT_GIB = 16
SIZES = (256, 1024, 4096, 16384)
LOSSES = {  # By the names of zoo.losses.
    "batch_hard_triplet": {"margin": MARGIN},
    "batch_semi_hard_triplet": {"margin": MARGIN},
    "batch_all_triplet": {"margin": MARGIN},
    "multi_similarity": {"base": 0.5},
    "supervised_contrastive": {},
    "contrastive": {"margin": 1.0},
}


def rows(*, quick: bool) -> list[Row]:
    found = []
    for loss in LOSSES:
        for size in (32,) if quick else SIZES:
            options = {"loss": loss, "size": size}
            limit, theirs = {"limit_gib": LIMIT_GIB}, ("torch", "pytorch_metric_learning")
            sides = {
                OURS: Side(f"{__name__}:ours", options, ("jax",), **limit),
                "pytorch-metric-learning": Side(f"{__name__}:theirs", options, theirs, **limit),
            }
            what = f"value and gradient, {size} x {D}, {K} a class"
            found.append(Row(f"mining/{loss}/{size}", what, sides))
    return found


def batch(size: int):
    """Noisy points of `size / K` classes, of length 1: [b, D] float32 and labels [b]."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(size // K), K).astype(np.int32)
    x = rng.normal(size=(size // K, D))[labels] + rng.normal(size=(size, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def pairs(size: int):
    """Two rows of each pair: everyone with the next one of his class, and with one of the next."""
    import numpy as np

    i = np.arange(size)
    j = np.concatenate([i - i % K + (i + 1) % K, (i + K) % size])
    return np.tile(i, 2), j, np.arange(2 * size) < size


def ours(*, loss: str, size: int, device: str = "cpu") -> Case:
    """On the first device that JAX has, which is of the kind `device`."""
    import jax

    from zoo import losses

    x, labels = map(jax.device_put, batch(size))
    function, options = getattr(losses, loss), LOSSES[loss]
    first, second, same = pairs(size)

    def value(x, labels):
        if loss == "contrastive":
            return losses.mean(*function(x[first], x[second], same, **options))
        return losses.mean(*function(x, labels, **options))

    run = jax.jit(jax.value_and_grad(value)).lower(x, labels).compile()
    return Case(lambda: float(jax.block_until_ready(run(x, labels))[0]), jax_facts(run))


def theirs(*, loss: str, size: int, device: str = "cpu") -> Case:
    """Settings that make its number ours: nothing is normalised, the mean is over the same."""
    import torch
    from pytorch_metric_learning import distances, losses, miners, reducers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    x, labels = (torch.from_numpy(array).to(device) for array in batch(size))
    x, labels = x.requires_grad_(), labels.long()
    euclidean = distances.LpDistance(normalize_embeddings=False)
    dot = distances.DotProductSimilarity(normalize_embeddings=False)
    options = {"distance": euclidean, "reducer": reducers.MeanReducer()}
    triplets = losses.TripletMarginLoss(MARGIN, **options)

    class Squared(losses.ContrastiveLoss):
        """Hadsell's: theirs is of distances. It adds two means, of as many pairs each."""

        def get_per_pair_loss(self, *args):
            return super().get_per_pair_loss(*args).square() / 4

    miner, function = {
        "batch_hard_triplet": (miners.BatchHardMiner(distance=euclidean), triplets),
        "batch_semi_hard_triplet": (
            miners.TripletMarginMiner(MARGIN, "semihard", distance=euclidean),
            triplets,
        ),
        "batch_all_triplet": (None, losses.TripletMarginLoss(MARGIN, distance=euclidean)),
        "multi_similarity": (
            miners.MultiSimilarityMiner(0.1, distance=dot),
            losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5, distance=dot),
        ),
        "supervised_contrastive": (None, losses.SupConLoss(temperature=0.1, distance=dot)),
        "contrastive": (None, Squared(0, 1, **options)),
    }[loss]
    first, second, same = (torch.from_numpy(array).to(device) for array in pairs(size))
    given = (first[same], second[same], first[~same], second[~same])

    def call() -> float:
        x.grad = None
        if loss == "contrastive":
            mined = given
        else:
            mined = miner(x, labels) if miner else None
        value = function(x, labels, mined)
        value.backward()
        return value.item()

    return Case(call)
