"""A split as points, a network's embeddings or the pixels themselves, and how they score."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.data.labelled import LabelledSource
from zoo.data.pairs import make_pairs
from zoo.metrics import retrieval_scores, verification_scores, within_group_runs

ALL_PAIRS = 500  # Pictures of a split up to which every pair is verified; above, two a picture.
WAYS = 20  # Of a one-shot run; smaller alphabets take no part.

Gallery = tuple[np.ndarray, LabelledSource]  # Points [m, d] and their pictures.


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A split's points, and its pairs."""

    points: np.ndarray  # [n, d] float32.
    source: LabelledSource
    pairs: tuple[np.ndarray, np.ndarray]  # Places [m] of the pairs that are verified,
    distances: np.ndarray  # how far apart each is, [m],
    same: np.ndarray  # and whether it is of one class, [m] bool.
    gallery: Gallery | None = None  # What is searched in; the split itself by default.

    def search(self) -> dict[str, Any]:
        """The arguments of `neighbours` that tell what is searched in."""
        if self.gallery is None:
            return {}
        points, searched = self.gallery
        # A picture in both is known by its name: it is not its own neighbour.
        names = [s[i]["name"] for s in (self.source, searched) for i in range(len(s))]
        ids = np.unique(names, return_inverse=True)[1]
        n = len(self.source)
        return {"gallery": points, "ids": ids[:n], "gallery_ids": ids[n:]}

    def scores(self) -> dict[str, Any]:
        """Retrieval, verification and, where drawers are known, one-shot runs."""
        source, search = self.source, self.search()
        most = len(self.points) - 1  # Leaving one out, the nearest n - 1 are all there are.
        if self.gallery is not None:
            most = len(self.gallery[0]) - 1
            search["gallery_labels"] = self.gallery[1].labels
        ks = [k for k in (1, 5) if k <= most]
        found = {
            **retrieval_scores(self.points, source.labels, ks, **search),
            **verification_scores(self.distances, self.same),
        }
        if source.drawers is not None:
            groups = np.unique(source.groups)
            sizes = [len(np.unique(source.labels[source.groups == g])) for g in groups]
            usable = np.array(sizes) >= WAYS
            # With none large enough the error names the first.
            rows = np.isin(source.groups, groups[usable] if usable.any() else groups)
            columns = (x[rows] for x in (self.points, source.labels, source.groups, source.drawers))
            found |= within_group_runs(*columns, np.random.default_rng(0), ways=WAYS)
        return found


def embedded(
    points: np.ndarray,
    source: LabelledSource,
    gallery: Gallery | None,
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Embedded:
    """Chooses the pairs and measures them: all, or those of `make_pairs` where they are too many.

    `distance` takes [m, d] and [m, d] and gives [m].
    """
    if len(source) <= ALL_PAIRS:
        i, j = np.triu_indices(len(source), 1)
    else:
        i, j, _ = make_pairs(source.labels, np.random.default_rng(0))
    same = source.labels[i] == source.labels[j]
    return Embedded(points, source, (i, j), distance(points[i], points[j]), same, gallery)


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[m, d] and [m, d] -> [m]."""
    return np.linalg.norm(x - y, axis=1)


def baseline(results: Embedded) -> str:
    """What raw pixels score, in words; none where the pictures differ in size."""
    points = []
    sources = [results.source] if results.gallery is None else [results.source, results.gallery[1]]
    for source in sources:
        images = [source[i]["image"] for i in range(len(source))]
        points.append([image.ravel().astype(np.float32) / 255 for image in images])
    if len({len(point) for part in points for point in part}) > 1:
        return ""
    gallery = None if results.gallery is None else (np.stack(points[1]), results.gallery[1])
    scores = embedded(np.stack(points[0]), results.source, gallery, euclidean).scores()
    shown = [k for k in ("recall_at_1", "eer", "one_shot_accuracy") if k in scores]
    return " Raw pixels: " + ", ".join(f"{name} {scores[name]:.4f}" for name in shown) + "."
