"""The pictures of a gallery that are nearest to one."""

from typing import Any

import numpy as np

from zoo.data.checks import explained
from zoo.data.images import File, read_image
from zoo.infer.embed import embed
from zoo.infer.load import Trained, fingerprint
from zoo.metrics import neighbours

BLOCK = 2**16  # Pictures compared at a time, in float64.


def read_gallery(gallery: File) -> tuple[np.ndarray, np.ndarray, str, str]:
    """Paths [n], embeddings [n, d], workdir and fingerprint of a file of `embed_files`.

    Raises ValueError where it cannot be read, or is of a zoo that did not keep the last two.
    """
    hint = "write it by python -m zoo embed WORKDIR PICTURES --out FILE.npz"
    with explained(f"{gallery} is no gallery that can be read", hint), np.load(gallery) as file:
        workdir, mark = file["model"].tolist()
        return file["paths"], file["embeddings"], workdir, mark


def search(run: Trained, gallery: File, image: File, *, k: int = 5) -> list[dict[str, Any]]:
    """The k nearest pictures of a gallery, or all where it has fewer: `path` and `distance`.

    Exact: Euclidean in float64, nearest first, of equally near ones the first in the gallery.
    Raises ValueError for an unreadable picture or gallery, one of another model, and k below 1.
    """
    paths, points, _, mark = read_gallery(gallery)
    if mark != fingerprint(run):
        problem = f"{gallery} was embedded by another model, or by {run.workdir} at another step"
        raise ValueError(f"{problem}; embed its pictures again, or name its model by --workdir.")
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}.")
    query = embed(run.model, run.variables, [read_image(image, run.info.channels)],
                  preprocess=run.preprocess)  # fmt: skip
    rows, distances = np.zeros(0, np.int64), np.zeros(0)
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        near, apart = neighbours(query, min(k, len(block)), gallery=block)
        rows, distances = np.append(rows, start + near[0]), np.append(distances, apart[0])
        best = np.argsort(distances, kind="stable")[:k]
        rows, distances = rows[best], distances[best]
    found = zip(rows, distances, strict=True)
    return [{"path": str(paths[row]), "distance": float(d)} for row, d in found]
