"""Classes told apart by one or a few examples of each, on the host."""

import numpy as np

from zoo.metrics.retrieval import check_set


def one_shot_accuracy(
    support: np.ndarray, support_labels: np.ndarray, query: np.ndarray, query_labels: np.ndarray
) -> float:
    """Share of queries [m, d] that are nearest to their own class's mean of supports [n, d].

    Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, Sec. 2;
    with one support a class its nearest neighbour. Distances are Euclidean, in float64; a query
    as near to another class as to its own counts as wrong. Raises ValueError where a shape or type
    is impossible, or a query's class has no support.
    """
    support, support_labels = check_set("support", support, support_labels=support_labels)
    query, query_labels = check_set("query", query, query_labels=query_labels)
    if support.shape[1] != query.shape[1]:
        raise ValueError(f"support {support.shape} and query {query.shape} differ in d.")
    if len(lost := query_labels[~np.isin(query_labels, support_labels)]):
        raise ValueError(f"Every query's class needs a support; class {lost[0]} has none.")
    own, other = np.full((2, len(query)), np.inf)
    for label in np.unique(support_labels):
        rows = support[support_labels == label]
        # From the first one on, so that the mean of equal supports is exactly they.
        mean = rows[0] + (rows - rows[0]).mean(axis=0)
        d2 = np.square(query - mean).sum(axis=1)
        own = np.where(query_labels == label, d2, own)
        other = np.where(query_labels == label, other, np.minimum(other, d2))
    return float(np.mean(own < other))


def episodes(
    embeddings: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    ways: int,
    shots: int,
    queries: int,
    count: int,
) -> dict[str, float]:
    """N-way K-shot episodes of Vinyals et al., "Matching Networks", NeurIPS 2016, Sec. 4.1.

    Each draws `ways` classes, and of each `shots` supports and `queries` others to be classified.
    Classes with fewer than `shots + queries` examples are never drawn. Returns "accuracy", mean
    over `count` episodes, and "confidence_95", 1.96 of its standard errors. Raises ValueError where
    a shape or type is impossible, too few classes are left, or `count` < 2.
    """
    embeddings, labels = check_set("embeddings", embeddings, labels=labels)
    each = shots + queries
    classes, counts = np.unique(labels, return_counts=True)
    members = [np.flatnonzero(labels == c) for c in classes[counts >= each]]
    if min(shots, queries) < 1 or not 1 <= ways <= len(members):
        needs = f"must be >= 1 and ways in 1..{len(members)}, the classes of that many examples"
        raise ValueError(f"shots and queries {needs}; got {shots=}, {queries=}, {ways=}.")
    drawn = []
    for _ in range(count):
        chosen = rng.choice(len(members), ways, replace=False)
        rows = np.stack([rng.permutation(members[c])[:each] for c in chosen])
        drawn.append((rows[:, :shots].ravel(), rows[:, shots:].ravel()))
    accuracy, error = _scores(embeddings, labels, drawn)
    return {"accuracy": accuracy, "confidence_95": 1.96 * error}


def within_group_runs(
    embeddings: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    drawers: np.ndarray,
    rng: np.random.Generator,
    *,
    ways: int = 20,
    count: int = 40,
) -> dict[str, float]:
    """Within-alphabet runs of Lake, Salakhutdinov & Tenenbaum, Science 350, 2015.

    Each of `count` runs takes one alphabet (all in turn), two of its drawers and `ways` of its
    characters: one picture each by the first drawer as support, by the second as query, drawn
    where there are several. `labels`, `groups` and `drawers`, [n] integers, are the character, the
    alphabet and who drew it. Returns "one_shot_accuracy", the mean, "one_shot_error", 1 - it, and
    "one_shot_standard_error" of both, deviation / sqrt(count). Raises ValueError where a shape or
    type is impossible, an alphabet has one drawer, a run's two have fewer than `ways` characters in
    common, or `count` < 2.
    """
    integers = {"labels": labels, "groups": groups, "drawers": drawers}
    embeddings, labels, groups, drawers = check_set("embeddings", embeddings, **integers)
    names, drawn = np.unique(groups), []
    for group in names[np.arange(count) % len(names)]:
        rows = rng.permutation(np.flatnonzero(groups == group))
        two = rng.permutation(np.unique(drawers[rows]))[:2]
        first, second = (rows[drawers[rows] == drawer] for drawer in (two[0], two[-1]))
        common, i, j = np.intersect1d(labels[first], labels[second], return_indices=True)
        if len(two) < 2 or not 1 <= ways <= len(common):
            got = f"Drawers {two} of group {group} have {len(common)} characters in common"
            raise ValueError(f"{got}; a run needs two drawers and 1 <= ways <= that, got {ways=}.")
        chosen = rng.permutation(len(common))[:ways]
        drawn.append((first[i[chosen]], second[j[chosen]]))
    accuracy, error = _scores(embeddings, labels, drawn)
    names = ("one_shot_accuracy", "one_shot_error", "one_shot_standard_error")
    return dict(zip(names, (accuracy, 1.0 - accuracy, error), strict=True))


def _scores(x: np.ndarray, labels: np.ndarray, drawn: list) -> tuple[float, float]:
    """Mean and standard error of the accuracy over pairs of rows (supports, queries)."""
    if len(drawn) < 2:
        raise ValueError(f"count must be >= 2 for a standard error; got {len(drawn)}.")
    accuracies = [one_shot_accuracy(x[s], labels[s], x[q], labels[q]) for s, q in drawn]
    error = np.std(accuracies, ddof=1) / np.sqrt(len(drawn))
    return float(np.mean(accuracies)), float(error)
