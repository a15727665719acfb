"""A split as points, a network's embeddings or the pixels themselves, and how they score."""

import itertools
from typing import Any

import numpy as np

from zoo.data import LabelledSource, make_pairs
from zoo.metrics import retrieval_scores, verification_scores, within_group_runs

ALL_PAIRS = 500  # Pictures of a split up to which every pair is verified.
MIN_PAIRS = 50_000  # Above, so many of one class, and of two, are drawn.
_NUMBERS = 2**22  # Of the points on one side of the pairs that are compared at once.
WAYS = 20  # Of a one-shot run; smaller alphabets take no part.

Gallery = tuple[np.ndarray, LabelledSource]  # Points [m, d] and their pictures.


class Embedded:
    """A split's points, [n, d] float32, and the pairs by which it is verified.

    Those are all or, above `ALL_PAIRS` pictures, some of `make_pairs`: `pairs` holds two arrays
    [m] of places, `distances` [m] how far apart they are, `same` [m] whether they are of one class.
    `distance` takes [m, d] and [m, d] and gives [m].
    """

    def __init__(self, points, source: LabelledSource, gallery: Gallery | None, distance):
        if len(source) <= ALL_PAIRS:
            i, j = np.triu_indices(len(source), 1)
        else:
            rounds, rng = -(-MIN_PAIRS // len(source)), np.random.default_rng(0)
            drawn = [make_pairs(source.labels, rng)[:2] for _ in range(rounds)]
            i, j = np.concatenate(drawn, axis=1)
        self.points, self.source, self.gallery = points, source, gallery
        self.searched = gallery or (points, source)  # What is searched in.
        self.pairs, self.same = (i, j), source.labels[i] == source.labels[j]
        # Some at a time: all pairs of pictures' pixels would fill the memory.
        some = max(1, _NUMBERS // points[0].size)
        parts = (slice(start, start + some) for start in range(0, len(i), some))
        self.distances = np.concatenate([distance(points[i[p]], points[j[p]]) for p in parts])

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
        source, search, (points, searched) = self.source, self.search(), self.searched
        if search:
            search["gallery_labels"] = searched.labels
        ks = [k for k in (1, 5) if k < len(points)]  # Leaving one out, one less are all there are.
        found = retrieval_scores(self.points, source.labels, ks, **search)
        found |= verification_scores(self.distances, self.same)
        if (rows := one_shot_rows(source)).any():
            columns = (x[rows] for x in (self.points, source.labels, source.groups, source.drawers))
            found |= within_group_runs(*columns, np.random.default_rng(0), ways=WAYS)
        return found


def one_shot_rows(source: LabelledSource) -> np.ndarray:
    """[n] bool, the pictures of groups of which any two drawers share characters for a run."""
    rows = np.zeros(len(source), bool)
    for group in () if source.drawers is None else np.unique(source.groups):
        own = source.groups == group
        drawers = [own & (source.drawers == drawer) for drawer in np.unique(source.drawers[own])]
        pairs = itertools.combinations([set(source.labels[drawn]) for drawn in drawers], 2)
        rows |= own & (min((len(a & b) for a, b in pairs), default=0) >= WAYS)
    return rows


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[m, d] and [m, d] -> [m]."""
    return np.linalg.norm(x - y, axis=1)
