"""A segmentation, as pictures beside their truth and prediction."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.report import figures
from zoo.data.images import resize_image
from zoo.ops.crop import centre_crop
from zoo.train.run import Run

SHOWN = 6  # Examples in the figures.


def draw(
    run: Run,
    variables: Mapping[str, Any],
    sums: Mapping[str, np.ndarray],
    records: Sequence[Mapping[str, Any]],
    folder: pathlib.Path,
) -> tuple[np.ndarray, str]:
    """Writes curves.png, confusion.png and examples.png.

    The variables are on the host, `sums` are the split's results, `records` metrics.jsonl's.
    Returns a picture for TensorBoard, [h, w, 3] uint8, and no words.
    """
    info = run.info
    figures.curves(records, folder / "curves.png", score=run.task.headline)
    figures.confusion(sums["confusion"], info.class_names, folder / "confusion.png")
    shown = list(zip(*examples(run, variables), strict=True))
    figures.grid(*shown, info, folder / "examples.png")
    return figures.overlays(*shown, info), ""


def examples(
    run: Run, variables: Mapping[str, Any]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, label and prediction of the first pictures of the split that is scored, as scored.

    The variables are on the host; this runs on the default device of one process.
    """
    data, source = run.experiment.data, run.source(run.experiment.split)

    @jax.jit
    def predict(variables, batch):
        logits = run.experiment.model.apply(variables, *run.task.inputs(batch))
        logits, labels = run.task.as_scored(logits, batch)
        return labels, jnp.argmax(logits, axis=-1)

    batches = (jax.device_get(predict(variables, b)) for b in run.eval_batches(source))
    rows = (row for batch in batches for row in zip(*batch, strict=True))
    # What only fills a batch comes last, so that no place is left for it.
    for place, (label, prediction) in zip(range(min(SHOWN, len(source))), rows, strict=False):
        image = source[place]["image"]
        if data.size is not None and data.score_at == "input":
            image = resize_image(image, data.size)
        # What unpadded convolutions do not reach is not scored.
        yield centre_crop(image[None], label.shape)[0], label, prediction
