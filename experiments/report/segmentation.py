"""A segmentation for people: scores of every class, and pictures beside truth and prediction."""

import bisect
import functools
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.report import figures, page
from experiments.report.page import Layers, Part, Table, number
from zoo.data.batches import resize_label
from zoo.data.images import colourize, resize_image
from zoo.data.info import Info
from zoo.metrics import confusion_matrix, segmentation_scores
from zoo.ops.crop import centre_crop
from zoo.train.run import Run

SHOWN = 6  # Examples in the figure.
EXTREMES = 4  # Best, and worst, pictures in the page.
SIDE = 512  # Longest side of a picture in figures and page, so that they stay of a few MB.


class Row(NamedTuple):
    """A picture of the split that is scored, as it is scored."""

    place: int
    score: float  # Its own mean IoU, over the classes that are there or predicted; nan: all void.
    label: np.ndarray  # [h, w] int32, as the prediction.
    prediction: np.ndarray


def draw(
    run: Run,
    variables: Mapping[str, Any],
    sums: Mapping[str, np.ndarray],
    found: Mapping[str, Any],
    folder: pathlib.Path,
) -> tuple[np.ndarray, Part]:
    """Writes confusion.png and examples.png.

    Takes what `zoo.train.loop.train` gives at the end. Returns a picture for TensorBoard, [h, w, 3]
    uint8, and what a page shows.
    """
    info, split = run.info, found["split"]
    figures.confusion(sums["confusion"], info.class_names, folder / "confusion.png")
    rows = predictions(run, variables)
    first = list(itertools.islice(rows, SHOWN))
    shown = list(zip(*(shrunk(run, row) for row in first), strict=True))
    figures.grid(*shown, info, folder / "examples.png")
    best, worst = extremes(itertools.chain(first, rows), EXTREMES)
    picked = {"Worst pictures": worst, "Best pictures": best}
    part = Part(
        sentence=(
            f"On the {len(run.source(split)):,} pictures of {info.name}'s split {split}, "
            f"{number(found['pixel_accuracy'], '{:.1%}')} of the pixels are named right; the mean "
            f"IoU over {info.num_classes} classes is {number(found['mean_iou'])}."
        ),
        figures=[
            page.figure(
                folder / "confusion.png", "Confusion", "Of each true class, how its pixels are "
                "named, in per cent; the counts are in the table of counts.",
            ),
        ],
        tables=[classes(sums["confusion"], info)],
        matrix=counts(sums["confusion"], info),
        layers={title: [layers(run, row) for row in some] for title, some in picked.items()},
    )  # fmt: skip
    return figures.overlays(*shown, info), part


def predictions(run: Run, variables: Mapping[str, Any]) -> Iterator[Row]:
    """Every picture of the split that is scored, in order, predicted once more.

    The variables are on the host; this runs on the default device of one process.
    """
    k, void, places = run.info.num_classes, run.info.ignore_label, itertools.count()
    confusion = functools.partial(confusion_matrix, num_classes=k, ignore_label=void)
    variables = jax.device_put(variables)

    @jax.jit
    def predict(variables, batch):
        logits = run.experiment.model.apply(variables, *run.task.inputs(batch))
        logits, labels = run.task.as_scored(logits, batch)
        ids = jnp.argmax(logits, axis=-1)
        return jax.vmap(confusion)(ids, labels), labels, ids

    for batch in run.eval_batches(run.source(run.experiment.split)):
        rows = zip(batch["weight"], *jax.device_get(predict(variables, batch)), strict=True)
        for weight, matrix, label, prediction in rows:
            if weight > 0:  # Else it only fills the batch.
                score = segmentation_scores(matrix)["mean_iou"]
                yield Row(next(places), score, label, prediction)


def extremes(rows: Iterable[Row], count: int) -> tuple[list[Row], list[Row]]:
    """The `count` best rows, best first, and worst, worst first; of few, none is in both.

    Holds no more than these at a time. Rows without a score are neither.
    """
    kept: list[Row] = []
    for row in rows:
        if not np.isnan(row.score):
            bisect.insort(kept, row, key=lambda r: r.score)
        if len(kept) > 2 * count:
            del kept[count]  # `count` are better and `count` are worse.
    half = min(count, len(kept) // 2)
    return kept[half:][-count:][::-1], kept[:half]


def image(run: Run, row: Row) -> np.ndarray:
    """The part of a row's picture that is scored, [h, w, c] uint8."""
    data = run.experiment.data
    pixels = run.source(run.experiment.split)[row.place]["image"]
    if data.size is not None and data.score_at == "input":
        pixels = resize_image(pixels, data.size)
    # What unpadded convolutions do not reach is not scored.
    return centre_crop(pixels[None], row.label.shape)[0]


def shrunk(run: Run, row: Row) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row's picture, label and prediction, with no side above `SIDE`."""
    size = figures.within(row.label.shape, SIDE)
    ids = (resize_label(x, size) for x in (row.label, row.prediction))
    return resize_image(image(run, row), size), *ids


def layers(run: Run, row: Row) -> Layers:
    """A row to be slid through."""
    info = run.info
    pixels, *ids = shrunk(run, row)
    painted = [
        page.picture(colourize(x, info.colours, info.ignore_label), exact=True) for x in ids
    ]  # fmt: skip
    name = run.source(run.experiment.split)[row.place]["name"]
    caption = f"{name}: mean IoU {number(row.score, '{:.3f}')}"
    src = page.picture(pixels, exact=False)
    return Layers(caption, src, *painted, small=max(pixels.shape) <= page.PNG_SIDE)


def classes(matrix: np.ndarray, info: Info) -> Table:
    """A row for each class: IoU, precision, recall and share of the pixels."""
    scores, called, total = segmentation_scores(matrix), matrix.sum(0), matrix.sum()
    precision = np.diag(matrix) / np.where(called, called, np.nan)
    columns = (scores["iou"], precision, scores["class_accuracy"])
    rows = [
        [name, *(number(x, "{:.3f}") for x in ratios), f"{pixels / max(total, 1):.1%}"]
        for name, pixels, *ratios in zip(info.class_names, matrix.sum(1), *columns, strict=True)
    ]
    head = ["class", "IoU", "precision", "recall", "share"]
    swatches = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in info.colours]
    return Table("Classes", head, rows, swatches)


def counts(matrix: np.ndarray, info: Info) -> Table:
    """The confusion matrix in pixels, rows the truth."""
    rows = [
        [name, *(f"{n:,}" for n in row)]
        for name, row in zip(info.class_names, matrix, strict=True)
    ]  # fmt: skip
    return Table("Counts of confusion, in pixels", ["truth \\ prediction", *info.class_names], rows)
