"""An embedding, as pictures and beside what raw pixels score."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.report import embedding_figures, figures, page
from experiments.report.page import Part
from zoo.data.images import read_image, resize_image
from zoo.train.embedded import Embedded, euclidean
from zoo.train.run import Run

PIXELS = 128  # Longest side of pictures whose raw pixels are compared.
NUMBERS = 2**26  # Of all these pixels at most: 256 MiB, and scoring copies them in float64.
# What is drawn: file, heading, and what it shows.
FIGURES = (
    ("distances", "Distances", "How distances of same and of different pairs spread."),
    ("roc", "ROC", "Accepted same pairs over accepted different pairs, as the threshold moves."),
    ("neighbours", "Neighbours", "Pictures with their nearest: green the same class, red another. "
     "The number is the distance."),
    ("hardest_pairs", "Hardest pairs", "Same pairs farthest apart, and different ones nearest. "
     "The number is the distance."),
    ("map", "Map", "The embedding in the plane; far groups' distances mean nothing."),
)  # fmt: skip


def draw(
    run: Run,
    variables: Mapping[str, Any],
    results: Embedded,
    found: Mapping[str, Any],
    folder: pathlib.Path,
) -> tuple[np.ndarray, Part]:
    """Writes the figures into a folder.

    Takes what `zoo.train.loop.train` gives at the end. Returns the map for TensorBoard, [h, w, 3]
    uint8, and what a page shows.
    """
    source, pairs = results.source, (results.distances, results.same)
    embedding_figures.distances(*pairs, found, folder / "distances.png")
    embedding_figures.roc(*pairs, found, folder / "roc.png")
    embedding_figures.nearest(results, folder / "neighbours.png")
    embedding_figures.hardest(results, folder / "hardest_pairs.png")
    embedding_figures.embedding_map(results.points, source.labels, source.info, folder / "map.png")
    sentence = (
        f"On the split {found['split']} of {source.info.name}, the nearest other picture shows the "
        f"same class for {found['recall_at_1']:.1%} of {found['queries']:,} pictures; where both "
        f"errors are equal, {found['eer']:.1%} of the pairs are judged wrongly."
    )
    if run.task.headline not in ("recall_at_1", "eer"):
        sentence += f" {run.task.headline} is {found[run.task.headline]:.4f}."
    shown = [page.figure(folder / f"{stem}.png", *words) for stem, *words in FIGURES]
    return read_image(folder / "map.png", 3), Part(sentence, shown, remark=baseline(results))


def baseline(results: Embedded) -> str:
    """What raw pixels score, in words; none where the pictures differ in size.

    Those of more than `PIXELS` a side are shrunk: pairs of photographs would take hours. So are
    very many, until all together have no more than `NUMBERS`.
    """
    sources = [results.source] if results.gallery is None else [results.source, results.gallery[1]]
    shape = results.source[0]["image"].shape
    size, images = figures.within(shape[:2], PIXELS), [[] for _ in sources]
    while max(size) > 1 and sum(map(len, sources)) * math.prod((*size, *shape[2:])) > NUMBERS:
        size = figures.within(size, max(size) // 2)
    for source, part in zip(sources, images, strict=True):
        for i in range(len(source)):
            if (pixels := source[i]["image"]).shape != shape:
                return ""
            part.append(resize_image(pixels, size).ravel())
    points, *found = (np.stack(part) / np.float32(255) for part in images)
    gallery = (found[0], results.gallery[1]) if found else None
    scores = Embedded(points, results.source, gallery, euclidean).scores()
    shown = [k for k in ("recall_at_1", "eer", "one_shot_accuracy") if k in scores]
    at = "" if size == shape[:2] else f", {size[0]}x{size[1]} of them"
    return f"Raw pixels{at}: " + ", ".join(f"{name} {scores[name]:.4f}" for name in shown) + "."
