"""An embedding, as pictures and beside what raw pixels score."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.report import embedding_figures, figures
from zoo.data.images import read_image
from zoo.metrics import verification_scores
from zoo.train.embedded import Embedded, euclidean
from zoo.train.run import Run


def draw(
    run: Run,
    variables: Mapping[str, Any],
    results: Embedded,
    records: Sequence[Mapping[str, Any]],
    folder: pathlib.Path,
) -> tuple[np.ndarray, str]:
    """Writes curves, distances, ROC, neighbours, hardest pairs and map.

    `records` are those of metrics.jsonl. Returns the map for TensorBoard, [h, w, 3] uint8, and what
    raw pixels score.
    """
    source, pairs = results.source, (results.distances, results.same)
    verified = verification_scores(*pairs)
    figures.curves(records, folder / "curves.png", score=run.task.headline)
    embedding_figures.distances(*pairs, verified, folder / "distances.png")
    embedding_figures.roc(*pairs, verified, folder / "roc.png")
    embedding_figures.nearest(results, folder / "neighbours.png")
    embedding_figures.hardest(results, folder / "hardest_pairs.png")
    embedding_figures.embedding_map(results.points, source.labels, source.info, folder / "map.png")
    return read_image(folder / "map.png", 3), baseline(results)


def baseline(results: Embedded) -> str:
    """What raw pixels score, in words; none where the pictures differ in size."""
    sources = [results.source] if results.gallery is None else [results.source, results.gallery[1]]
    images = [[source[i]["image"] for i in range(len(source))] for source in sources]
    if len({image.shape for part in images for image in part}) > 1:
        return ""
    points, *found = (np.reshape(part, (len(part), -1)) / np.float32(255) for part in images)
    gallery = (found[0], results.gallery[1]) if found else None
    scores = Embedded(points, results.source, gallery, euclidean).scores()
    shown = [k for k in ("recall_at_1", "eer", "one_shot_accuracy") if k in scores]
    return "Raw pixels: " + ", ".join(f"{name} {scores[name]:.4f}" for name in shown) + "."
