"""The best score of an FCN that predicts each class's share in every stride x stride square."""

import numpy as np

from zoo.data.batches import resize_label
from zoo.ops import upsample_bilinear
from zoo.ops.resize import resize_logits
from zoo.train.run import Run


def oracle(run: Run, stride: int) -> float:
    """The headline of the truth itself, averaged over squares of `stride` pixels and up-sampled.

    At `data.size`, where that is set, and scored as the network is: at the label's own size unless
    `data.score_at` is "input". Logits that also encode where in the square a class lies can exceed
    it.
    """
    k, void, total = run.info.num_classes, run.info.ignore_label, 0
    data = run.experiment.data
    for example in run.source(run.experiment.split):
        label = example["label"]
        seen = label if data.size is None else resize_label(label, data.size)
        h, w = seen.shape
        squares = np.pad(seen, [(0, -h % stride), (0, -w % stride)], constant_values=void)
        share = np.eye(k + 1, dtype=np.float32)[np.where(squares == void, k, squares)][..., :k]
        m, n = (side // stride for side in squares.shape)
        share = share.reshape(m, stride, n, stride, k).mean((1, 3))
        logits = upsample_bilinear(share[None], stride)[:, :h, :w]
        truth = seen if data.score_at == "input" else label
        guess = np.argmax(resize_logits(logits, truth.shape)[0], -1)
        known = truth != void
        pairs = np.bincount(truth[known].astype(np.int64) * k + guess[known], minlength=k * k)
        total = total + pairs.reshape(k, k)
    return run.task.scores({"confusion": total, "loss": 0.0, "weight": 0.0})[run.task.headline]
