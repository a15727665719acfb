"""Counts on the device, ratios on the host.

A set is scored by the sum of its batches' confusion matrices, never by a mean of batches' scores.
"""

import jax
import jax.numpy as jnp
import numpy as np

from zoo.ops.labels import check_ids


def confusion_matrix(
    predictions: jax.Array, labels: jax.Array, num_classes: int, ignore_label: int
) -> jax.Array:
    """How often a pixel of class i (row) was called class j (column).

    Takes integers 0..num_classes-1 of one shape, the labels also `ignore_label` (not counted).
    Returns [k, k] int32, exact for up to 2**31 pixels; sums over batches belong in int64. Raises
    ValueError where the shapes differ, a type is not integer, or an id is neither class nor void.
    Under `jit` ids cannot be seen; there the data pipeline has refused such labels.
    """
    if predictions.shape != labels.shape:
        got = f"{predictions.shape} and {labels.shape}"
        raise ValueError(f"confusion_matrix needs predictions and labels of one shape; got {got}.")
    for name, ids, void in (("predictions", predictions, None), ("labels", labels, ignore_label)):
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"confusion_matrix needs integer {name}; got {ids.dtype}.")
        check_ids(name, ids, num_classes, void)
    labels = jnp.asarray(labels, jnp.int32)
    cell = labels * num_classes + jnp.asarray(predictions, jnp.int32)
    # Ignored pixels are counted too, in one more cell that is cut off.
    cell = jnp.where(labels == ignore_label, num_classes**2, cell).ravel()
    # A scatter: a product of one-hot matrices is slower, and exact below 2**24 only.
    counts = jnp.zeros(num_classes**2 + 1, jnp.int32).at[cell].add(1)
    return counts[:-1].reshape(num_classes, num_classes)


def segmentation_scores(matrix: np.ndarray) -> dict[str, float | list[float]]:
    """Scores of a [k, k] confusion matrix, rows the truth, in float64 on the host.

    With t the diagonal, n the row sums (pixels of the class) and m the column sums (called so):

        iou = t / (n + m - t)         Jaccard index          mean_iou
        class_accuracy = t / n        recall                 mean_class_accuracy
        dice = 2 t / (n + m)          F1                     mean_dice
        pixel_accuracy = sum t / sum n
        frequency_weighted_iou = sum (n * iou) / sum n

    as in Long, Shelhamer & Darrell, CVPR 2015, Sec. 5: lists of k floats, their means and the last
    two. A ratio 0 / 0 is nan and left out of its mean: a class neither there nor predicted counts
    in no mean, one that is predicted but not there has IoU and Dice 0 but no accuracy. An empty
    matrix scores nan throughout. Raises ValueError for a matrix that is not square, not of
    integers, or has a negative count.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"segmentation_scores takes a matrix [k, k]; got {matrix.shape}.")
    if not np.issubdtype(matrix.dtype, np.integer):
        raise ValueError(f"segmentation_scores takes integer counts; got {matrix.dtype}.")
    if (least := matrix.min(initial=0)) < 0:
        raise ValueError(f"segmentation_scores takes counts >= 0; got {least}: add up in int64.")
    matrix = matrix.astype(np.int64)
    hit, truth, called = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is meant to be nan.
        iou, accuracy, dice = hit / (truth + called - hit), hit / truth, 2 * hit / (truth + called)
        weighted = (truth * iou)[truth > 0].sum() / truth.sum()
        pixel_accuracy = hit.sum() / truth.sum()
    ratios = {"iou": iou, "class_accuracy": accuracy, "dice": dice}
    known = {name: ratio[~np.isnan(ratio)] for name, ratio in ratios.items()}
    means = {f"mean_{name}": x.mean() if x.size else np.nan for name, x in known.items()}
    totals = {**means, "frequency_weighted_iou": weighted, "pixel_accuracy": pixel_accuracy}
    return {n: float(x) for n, x in totals.items()} | {n: x.tolist() for n, x in ratios.items()}
