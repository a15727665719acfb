"""Segmentation scores from class ids, beside torchmetrics: the mean IoU of a batch."""

import os

from experiments.bench.row import OURS, Case, Row, Side

CLASSES, VOID = 11, 255


def rows(*, quick: bool) -> list[Row]:
    shape = [2, 16, 16] if quick else [8, 360, 480]
    sides = {
        OURS: Side(f"{__name__}:ours", {"shape": shape}, ("jax",)),
        "torchmetrics": Side(f"{__name__}:theirs", {"shape": shape}, ("torch", "torchmetrics")),
    }
    what = f"mean IoU of {' x '.join(map(str, shape))} px, {CLASSES} classes and void"
    return [Row("scores/mean_iou", what, sides, images=shape[0])]


def ids(shape):
    """Predictions and labels, int32, of which a fifth is wrong and some are void."""
    import numpy as np

    rng = np.random.default_rng(0)
    label, other = rng.integers(0, CLASSES, (2, *shape))
    predicted = np.where(rng.random(shape) < 0.2, other, label)
    label = np.where(rng.random(shape) < 0.05, VOID, label)
    return predicted.astype(np.int32), label.astype(np.int32)


def ours(*, shape: list[int]) -> Case:
    import jax

    from zoo.metrics import confusion_matrix, segmentation_scores

    predicted, label = map(jax.numpy.asarray, ids(shape))
    count = jax.jit(confusion_matrix, static_argnums=(2, 3))

    def call() -> float:
        matrix = count(predicted, label, CLASSES, VOID)
        return segmentation_scores(jax.device_get(matrix))["mean_iou"]

    return Case(call)


def theirs(*, shape: list[int]) -> Case:
    import torch

    from experiments.bench.peers import load_torchvision

    load_torchvision()
    from torchmetrics.functional.classification import multiclass_jaccard_index

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    predicted, label = map(torch.from_numpy, ids(shape))

    def call() -> float:
        found = multiclass_jaccard_index(predicted, label, CLASSES, ignore_index=VOID)
        return found.item()

    return Case(call)
