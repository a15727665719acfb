"""Which pictures the sheets of an embedding show, and in which colour."""

import numpy as np
import pytest

from experiments.report import embedding, embedding_figures
from experiments.report.embedding_figures import RIGHT, WRONG
from zoo.train.embedded import Embedded, euclidean


def test_the_hardest_pairs_and_the_nearest_neighbours(monkeypatch):
    """Four pictures, of the grey 0 to 3, on a line at 0, 1, 3 and 7; two of each class."""
    source = type("Source", (list,), {})(
        {"image": np.full((1, 1, 1), i, np.uint8), "name": str(i)} for i in range(4)
    )
    source.labels, source.groups, source.drawers = np.array([0, 0, 1, 1]), None, None
    results = Embedded(np.array([[0.0], [1], [3], [7]]), source, None, euclidean)
    sheets = []
    monkeypatch.setattr(embedding_figures, "_sheet", lambda lines, path: sheets.append(lines))
    embedding_figures.hardest(results, "")
    embedding_figures.nearest(results, "")
    shown = [[int(cell[0].flat[0]) for cell in line] for line in sheets[0]]
    assert shown == [[2, 0], [3, 1], [1, 0, 1, 0], [2, 2, 3, 3]]
    assert [cell[2] for cell in sheets[1][2][1:]] == [WRONG, WRONG, RIGHT]


@pytest.mark.parametrize(
    ("size", "most", "words"),
    [
        ((8, 6), 2**26, "Raw pixels: "),
        ((8, 6), 20 * 8 * 6 * 3, "Raw pixels: "),
        ((640, 320), 2**26, "Raw pixels, 128x64 of them: "),
        ((640, 320), 20 * 32 * 16 * 3, "Raw pixels, 32x16 of them: "),
        ((8, 6), 1, "Raw pixels, 1x1 of them: "),
    ],
)
def test_raw_pixels_of_large_or_many_pictures_are_shrunk(size, most, words, monkeypatch):
    """Two classes that brightness tells apart: no error at any size."""
    monkeypatch.setattr(embedding, "NUMBERS", most)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    images = [rng.integers(0, 50, (*size, 3)) + 150 * label for label in labels]
    source = type("Source", (list,), {})({"image": x.astype(np.uint8)} for x in images)
    source.labels, source.drawers = labels, None
    told = embedding.baseline(Embedded(np.eye(20), source, None, euclidean))
    assert words in told and "recall_at_1 1.0000, eer 0.0000" in told
    source[3] = {**source[3], "image": source[3]["image"][1:]}
    assert embedding.baseline(Embedded(np.eye(20), source, None, euclidean)) == ""
