import numpy as np
import pytest

from zoo.metrics import one_shot
from zoo.metrics.one_shot import episodes, one_shot_accuracy, within_group_runs


def reference(support, support_labels, query, query_labels):
    """Prototypes in a loop; every class but the query's own wins a tie."""
    right = 0
    for q, label in zip(query, query_labels, strict=True):
        distance = {}
        for c in set(support_labels.tolist()):
            mean = sum(s for s, y in zip(support, support_labels, strict=True) if y == c)
            distance[c] = np.linalg.norm(q - mean / np.sum(support_labels == c))
        right += all(distance[label] < distance[c] for c in distance if c != label)
    return right / len(query)


@pytest.mark.parametrize("shots", [1, 5])
def test_matches_the_loop(shots):
    rng = np.random.default_rng(shots)
    labels = np.repeat([-4, 2**31 - 1, 9, 0, 3], shots)
    x = rng.normal(size=(len(labels), 3))
    queries = rng.choice(labels, 200)
    y = np.stack([x[labels == c].mean(axis=0) for c in queries]) + rng.normal(size=(200, 3)) / 2
    got = one_shot_accuracy(x, labels, y, queries)
    assert 0.3 < got < 0.95
    assert got == pytest.approx(reference(x, labels, y, queries), rel=1e-12)


def test_nearest_is_euclidean_as_scikit_learn_has_it():
    from sklearn.neighbors import NearestCentroid

    rng = np.random.default_rng(1)
    labels, queries = np.arange(60) % 7, rng.integers(0, 7, 300)
    x, y = rng.normal(size=(60, 4)) + labels[:, None], rng.normal(size=(300, 4)) + queries[:, None]
    want = NearestCentroid().fit(x, labels).score(y, queries)
    assert one_shot_accuracy(x, labels, y, queries) == pytest.approx(want, rel=1e-12)


def test_ties_are_wrong():
    # The query 1 lies between both supports; 0 is class 3's own.
    support, labels = np.array([[0.0], [2.0]]), np.array([3, 4])
    assert one_shot_accuracy(support, labels, np.array([[1.0], [0.0]]), np.array([3, 3])) == 0.5
    # A collapsed network, with unequal shots, so that sums / counts would round differently.
    point = np.full((4, 2), 0.1)
    labels = np.array([0, 1, 1, 1])
    assert one_shot_accuracy(point, labels, point, labels) == 0.0


def test_one_class_is_always_right():
    assert one_shot_accuracy(np.zeros((1, 2)), np.array([5]), np.ones((3, 2)), np.full(3, 5)) == 1


@pytest.mark.parametrize(
    ("support", "support_labels", "query", "query_labels", "message"),
    [
        (np.zeros((2, 3)), [0, 1], np.zeros((1, 3)), [2], "class 2 has none"),
        (np.zeros((2, 3)), [0, 1], np.zeros((1, 2)), [0], "differ in d"),
        (np.zeros((2, 3)), [0], np.zeros((1, 3)), [0], "support_labels must be 2 integers"),
        (np.zeros((2, 3)), [0, 1], np.zeros((1, 3)), [0.0], "query_labels must be 1 integers"),
        (
            np.zeros((2, 3)),
            [0, 1],
            np.full((1, 3), np.inf),
            [0],
            "query must be finite; 1 row",
        ),
    ],
)
def test_accuracy_refuses(support, support_labels, query, query_labels, message):
    with pytest.raises(ValueError, match=message):
        one_shot_accuracy(support, support_labels, query, query_labels)


def spy(monkeypatch):
    """Records what `one_shot_accuracy` is given; row numbers stand in the first column."""
    calls = []

    def record(*args):
        calls.append(args)
        return one_shot_accuracy(*args)

    monkeypatch.setattr(one_shot, "one_shot_accuracy", record)
    return calls


def test_episodes_draw_as_vinyals(monkeypatch):
    calls = spy(monkeypatch)
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.permutation(np.repeat(np.arange(10), 6)), [77] * 5])
    x = np.column_stack([np.arange(65.0), rng.normal(size=65)])
    got = episodes(x, labels, rng, ways=4, shots=2, queries=4, count=50)
    for support, support_labels, query, query_labels in calls:
        classes, counts = np.unique(support_labels, return_counts=True)
        # 77 has five examples, one too few.
        assert len(classes) == 4 and (counts == 2).all() and 77 not in classes
        np.testing.assert_array_equal(np.unique(query_labels, return_counts=True)[1], [4] * 4)
        rows = np.concatenate([support[:, 0], query[:, 0]]).astype(int)
        assert len(set(rows)) == 24  # No query is a support.
        given = np.concatenate([support_labels, query_labels])
        np.testing.assert_array_equal(labels[rows], given)
    assert len(set(map(str, (c[0][:, 0] for c in calls)))) == 50
    accuracies = [reference(*c) for c in calls]
    mean = sum(accuracies) / 50
    deviation = np.sqrt(sum((a - mean) ** 2 for a in accuracies) / 49)
    want = {"accuracy": mean, "confidence_95": 1.96 * deviation / np.sqrt(50)}
    assert got == pytest.approx(want, rel=1e-12)


def test_episodes_of_known_accuracy():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(8), 5)
    options = {"ways": 5, "shots": 1, "queries": 3, "count": 200}
    got = episodes(np.eye(8)[labels], labels, rng, **options)
    assert got == {"accuracy": 1.0, "confidence_95": 0.0}
    got = episodes(np.ones((40, 3)), labels, rng, **options)
    assert got == {"accuracy": 0.0, "confidence_95": 0.0}
    # Embeddings that know nothing: one in five.
    noise = np.random.default_rng(1).normal(size=(4000, 3))
    got = episodes(noise, np.arange(4000) % 8, rng, **options)
    assert abs(got["accuracy"] - 0.2) < 2 * got["confidence_95"] < 0.1
    again = [episodes(noise, np.arange(4000) % 8, np.random.default_rng(2), **options)] * 2
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": 4}, r"ways in 1\.\.3, .* ways=4"),
        ({"ways": 0}, "ways=0"),
        ({"shots": 3}, r"ways in 1\.\.0, .* shots=3"),
        ({"shots": 0}, "shots=0"),
        ({"queries": 0}, "queries=0"),
        ({"count": 1}, "count must be >= 2 .* got 1"),
    ],
)
def test_episodes_refuse(change, message):
    options = {"ways": 2, "shots": 1, "queries": 2, "count": 3, **change}
    with pytest.raises(ValueError, match=message):
        episodes(np.zeros((9, 2)), np.arange(9) % 3, np.random.default_rng(0), **options)


def alphabets(seed=0):
    """Three alphabets of 5, 6 and 7 characters by four drawers each, in any order."""
    rows = []
    for group, size in ((-1, 5), (4, 6), (9, 7)):
        rows += [(100 * group + c, group, d) for c in range(size) for d in range(4)]
    rows = np.random.default_rng(seed).permutation(np.array(rows))
    return tuple(rows.T)


def test_runs_draw_as_lake(monkeypatch):
    calls = spy(monkeypatch)
    labels, groups, drawers = alphabets()
    rng = np.random.default_rng(0)
    x = np.column_stack([np.arange(len(labels)), rng.normal(size=len(labels)) * 20])
    got = within_group_runs(x, labels, groups, drawers, rng, ways=5, count=30)
    seen = []
    for support, support_labels, query, query_labels in calls:
        first, second = support[:, 0].astype(int), query[:, 0].astype(int)
        np.testing.assert_array_equal(labels[first], support_labels)
        np.testing.assert_array_equal(labels[second], query_labels)
        np.testing.assert_array_equal(support_labels, query_labels)
        assert len(set(support_labels.tolist())) == 5
        assert len(set(groups[first]) | set(groups[second])) == 1
        (one,), (two,) = set(drawers[first]), set(drawers[second])
        assert one != two
        seen.append((groups[first[0]], one, two))
    # Each alphabet as often; many pairs of drawers, in both orders.
    assert np.unique([s[0] for s in seen], return_counts=True)[1].tolist() == [10, 10, 10]
    assert len(set(seen)) > 15
    assert len(set(np.concatenate([c[1] for c in calls]).tolist())) == 18  # Every character.
    accuracies = [reference(*c) for c in calls]
    assert got["one_shot_accuracy"] == pytest.approx(np.mean(accuracies), rel=1e-12)
    assert got["one_shot_error"] == pytest.approx(1 - np.mean(accuracies), rel=1e-12)
    error = np.std(accuracies, ddof=1) / np.sqrt(30)
    assert got["one_shot_standard_error"] == pytest.approx(error, rel=1e-12)


def test_pictures_missing_and_twice(monkeypatch):
    calls = spy(monkeypatch)
    labels, groups, drawers = alphabets()
    # Drawer 0 left out one of five characters; drawer 1 drew another twice.
    kept = np.flatnonzero((labels != -97) | (drawers != 0))
    assert len(kept) == 71
    kept = np.append(kept, np.flatnonzero((labels == -98) & (drawers == 1)))
    labels, groups, drawers = labels[kept], groups[kept], drawers[kept]
    x = np.arange(72)[:, None]
    within_group_runs(x, labels, groups, drawers, np.random.default_rng(1), ways=4, count=60)
    for support, support_labels, query, query_labels in calls:
        first, second = support[:, 0].astype(int), query[:, 0].astype(int)
        np.testing.assert_array_equal(support_labels, query_labels)
        np.testing.assert_array_equal(labels[first], support_labels)
        np.testing.assert_array_equal(labels[second], support_labels)
        assert len(set(support_labels.tolist())) == 4
        (one,), (two,) = set(drawers[first]), set(drawers[second])
        assert one != two
    with pytest.raises(ValueError, match="of group -1 have 4 characters in common.* ways=5"):
        within_group_runs(x, labels, groups, drawers, np.random.default_rng(1), ways=5, count=60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": 6}, "of group -1 have 5 characters in common.* got ways=6"),
        ({"ways": 0}, "got ways=0"),
        ({"count": 1}, "count must be >= 2"),
    ],
)
def test_runs_refuse(change, message):
    labels, groups, drawers = alphabets()
    x = np.zeros((len(labels), 2))
    with pytest.raises(ValueError, match=message):
        options = {"ways": 5, "count": 4, **change}
        within_group_runs(x, labels, groups, drawers, np.random.default_rng(0), **options)


def test_runs_refuse_one_drawer():
    labels, groups, drawers = alphabets()
    drawers = np.where(groups == 4, 0, drawers)
    with pytest.raises(ValueError, match=r"Drawers \[0\] of group 4 "):
        x = np.zeros((len(labels), 2))
        within_group_runs(x, labels, groups, drawers, np.random.default_rng(0), ways=2)
    with pytest.raises(ValueError, match="drawers must be 72 integers"):
        within_group_runs(x, labels, groups, drawers * 0.5, np.random.default_rng(0), ways=2)
