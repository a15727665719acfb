import io
import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from zoo.data.labelled import open_labelled
from zoo.train import embedded
from zoo.train.embedded import Embedded, euclidean


def test_alphabets_of_twenty_are_run_and_smaller_ones_not():
    rows = [(20 * g + c, g, d) for g, n in ((0, 20), (1, 19)) for c in range(n) for d in (1, 2)]
    source = type("Source", (list,), {})({"name": str(i)} for i in range(len(rows)))
    source.labels, source.groups, source.drawers = np.array(rows).T
    # The points of the smaller alphabet tell nothing.
    points = np.eye(40)[np.where(source.groups == 0, source.labels, 39)]
    assert Embedded(points, source, None, euclidean).scores()["one_shot_accuracy"] == 1
    np.testing.assert_array_equal(embedded.one_shot_rows(source), source.groups == 0)
    source.drawers = source.labels % 2  # No character has two drawers.
    assert "one_shot_accuracy" not in Embedded(points, source, None, euclidean).scores()


def test_without_an_alphabet_of_twenty_the_other_scores_are_there():
    rows = [(c, 0, d) for c in range(19) for d in (1, 2)]
    source = type("Source", (list,), {})({"name": str(i)} for i in range(len(rows)))
    source.labels, source.groups, source.drawers = np.array(rows).T
    found = Embedded(np.eye(19)[source.labels], source, None, euclidean).scores()
    assert found["recall_at_1"] == 1 and "one_shot_accuracy" not in found


def pictures(points, labels):
    source = type("Source", (list,), {})({"name": str(i)} for i in range(len(points)))
    source.labels, source.drawers = np.asarray(labels), None
    return Embedded(points, source, None, euclidean)


def test_pairs_of_large_points_are_compared_some_at_a_time(monkeypatch):
    points = np.random.default_rng(0).normal(size=(40, 50_000)).astype(np.float32)
    want = np.linalg.norm(points[[0, 0, 38]] - points[[1, 2, 39]], axis=1)
    monkeypatch.setattr(embedded, "_NUMBERS", 10**6)  # 780 pairs are 39 million numbers.
    tracemalloc.start()
    found = pictures(points, np.arange(40) // 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found.distances[[0, 1, -1]], want, rtol=1e-6)
    assert len(found.distances) == 780 and peak < 5 * 4 * 10**6


@pytest.mark.parametrize("gallery", ["test", "train[1:]+test[2:]", "test[:3]"])
def test_a_picture_without_a_name_is_known_by_its_place(tmp_path, monkeypatch, gallery):
    """MNIST as TFDS has it; a query in the gallery by another slice is not its own neighbour."""
    cls, rng = tfds.builder_cls("mnist"), np.random.default_rng(0)

    def examples(n):
        for i in range(n):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (28, 28), np.uint8)).save(buffer, "PNG")
            yield i, {"image": io.BytesIO(buffer.getvalue()), "label": i % 2}

    parts = {"train": 4, "test": 6}
    split = lambda self, manager: {name: examples(n) for name, n in parts.items()}  # noqa: E731
    monkeypatch.setattr(cls, "_split_generators", split)
    monkeypatch.setattr(cls, "url_infos", None)
    queries, searched = (
        open_labelled("mnist", s, path=str(tmp_path)) for s in ("test[1:3]", gallery)
    )
    points = {e["image"].tobytes(): rng.normal(size=3) for s in (queries, searched) for e in s}
    found = Embedded(
        np.stack([points[e["image"].tobytes()] for e in queries]),
        queries,
        (np.stack([points[e["image"].tobytes()] for e in searched]), searched),
        euclidean,
    ).search()
    for query, number in zip(queries, found["ids"], strict=True):
        same = [query["image"].tobytes() == e["image"].tobytes() for e in searched]
        np.testing.assert_array_equal(found["gallery_ids"] == number, same)
    assert queries[0]["name"] == "mnist test[1]"
