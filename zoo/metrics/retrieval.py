"""Nearest neighbours and how many of them are right, on the host.

Distances are Euclidean, sums of squared differences in float64; tied where these are equal.
"""

from collections.abc import Iterator, Sequence

import numpy as np

_BLOCK = 2**22  # Entries of a block of the Gram matrix; 32 MiB.


def retrieval_scores(
    embeddings: np.ndarray,
    labels: np.ndarray,
    ks: Sequence[int] = (1, 5),
    *,
    gallery: np.ndarray | None = None,
    gallery_labels: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
) -> dict[str, float | int]:
    """Recall@k (a right item is among the first k), R-precision and MAP@R, means over queries.

    Musgrave, Belongie & Lim, "A Metric Learning Reality Check", ECCV 2020, Sec. 3.2: with R the
    gallery's items of the query's class and P(i) the share of right ones among the first i,
    r_precision = P(R), map_at_r = 1/R * sum of P(i) over the right i-th items, i <= R. Of equally
    near items wrong ones come first: a network that maps all to one point scores its worst.

    The queries are `embeddings` [n, d] with integer `labels` [n]; each is searched in the gallery,
    or without one among all the others. `ids` are integers, one a picture: an item of the query's
    id is not its neighbour. Without a gallery `ids` alone, by default all different. Returns
    "recall_at_1" ... for each of `ks`, "precision_at_1", "r_precision", "map_at_r", "queries" that
    were counted and "queries_without_positive" in the gallery, which were left out. Raises
    ValueError where a shape, type or k is impossible, or no query has a positive.
    """
    if (gallery is None) != (gallery_labels is None):
        raise ValueError("gallery and gallery_labels: give both or neither.")
    query, items, ids, item_ids = _sets(embeddings, ks, gallery, ids, gallery_ids)
    _, labels = check_set("embeddings", query, labels=labels)
    item_labels = labels if gallery is None else gallery_labels
    _, item_labels = check_set("gallery", items, gallery_labels=item_labels)
    pairs = zip(labels, ids, strict=True)
    total = np.array([((item_labels == c) & (item_ids != i)).sum() for c, i in pairs])
    kept = total > 0
    if not kept.any():
        raise ValueError("No query has another item of its class in the gallery; give some two.")
    query, labels, ids, total = (x[kept] for x in (query, labels, ids, total))
    first, precision, average = np.zeros((3, len(query)))
    for i, near, d2 in _nearest(query, items, ids, item_ids, np.maximum(total, max(ks))):
        right = item_labels[near] == labels[i]
        hits = np.sort(d2[right])
        found = np.arange(1, len(hits) + 1)
        rank = found + np.searchsorted(np.sort(d2[~right]), hits, side="right")
        first[i] = rank[0] if len(rank) else np.inf  # None near: its first is behind every k.
        counted = rank <= total[i]
        precision[i] = counted.sum() / total[i]
        average[i] = (found / rank)[counted].sum() / total[i]
    scores = {f"recall_at_{k}": np.mean(first <= k) for k in ks}
    scores |= {"precision_at_1": np.mean(first == 1)}
    scores |= {"r_precision": precision.mean(), "map_at_r": average.mean()}
    counts = {"queries": len(query), "queries_without_positive": int(np.sum(~kept))}
    return {name: float(score) for name, score in scores.items()} | counts


def neighbours(embeddings: np.ndarray, k: int, **search) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of each embedding, nearest first; of equally near ones the lower row first.

    `search` is the gallery and the ids of `retrieval_scores`, whose errors these are too. Returns
    [n, k] int64 rows of the gallery (without one, of the embeddings) and [n, k] float64 distances.
    """
    query, items, ids, item_ids = _sets(embeddings, (k,), **search)
    indices, distances = np.zeros((len(query), k), np.int64), np.zeros((len(query), k))
    for i, near, d2 in _nearest(query, items, ids, item_ids, np.full(len(query), k)):
        order = np.argsort(d2, kind="stable")[:k]
        indices[i], distances[i] = near[order], np.sqrt(d2[order])
    return indices, distances


def check_set(name: str, x: np.ndarray, **integers: np.ndarray) -> list[np.ndarray]:
    """[n, d] embeddings in float64 and each of `integers`, [n]; refuses what is not that."""
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name} must be [n, d] and not empty; got {x.shape}.")
    if len(bad := np.flatnonzero(~(np.abs(x) < 1e150).all(axis=1))):  # Beyond, squares are inf.
        raise ValueError(f"{name} must be finite; {len(bad)} rows are not, first {bad[0]}.")
    for key, values in integers.items():
        if np.shape(values) != (len(x),) or np.asarray(values).dtype.kind not in "iu":
            raise ValueError(f"{key} must be {len(x)} integers, one an embedding; got {values}.")
    return [x, *map(np.asarray, integers.values())]


def _sets(embeddings, ks, gallery=None, ids=None, gallery_ids=None) -> tuple[np.ndarray, ...]:
    """Queries, gallery and the ids of both, checked; each of `ks` is possible for them."""
    if (gallery_ids is None) != (gallery is None or ids is None):
        raise ValueError("ids and gallery_ids: give both or neither, gallery_ids with a gallery.")
    if ids is None:
        ids = np.arange(len(embeddings))
        gallery_ids = None if gallery is None else np.full(len(gallery), -1)
    items, item_ids = query, ids = check_set("embeddings", embeddings, ids=ids)
    if gallery is not None:
        items, item_ids = check_set("gallery", gallery, gallery_ids=gallery_ids)
    if query.shape[1] != items.shape[1]:
        raise ValueError(f"embeddings {query.shape} and gallery {items.shape} differ in d.")
    names, counts = np.unique(item_ids, return_counts=True)
    most = len(items) - counts[np.isin(names, ids)].max(initial=0)
    if len(ks) == 0 or min(ks) < 1 or max(ks) > most:
        raise ValueError(f"k must be in 1..{most}, the gallery without the query; got {ks}.")
    return query, items, ids, item_ids


def _nearest(query, items, ids, item_ids, counts) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields each query's row, the rows of its `counts[row]` nearest items, distances squared.

    Whatever is tied with the last is there too; some that are farther may be.
    """
    # A Gram matrix is fast but rounds equal distances apart: it only finds who may be near, whose
    # distances are then summed directly. About the centre it cancels least.
    x, y = query - items.mean(axis=0), items - items.mean(axis=0)
    x2, y2 = (np.square(v).sum(axis=1) for v in (x, y))
    # |x|^2 + |y|^2 - 2xy is off by less than (d + 4) * eps * (|x|^2 + |y|^2): Higham, "Accuracy
    # and Stability of Numerical Algorithms", Sec. 3.1. As much again for the direct sum.
    slack = 2 * (x.shape[1] + 4) * np.finfo(np.float64).eps
    step = max(1, _BLOCK // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        scale = x2[rows, None] + y2
        gram = scale - 2.0 * (x[rows] @ y.T)
        scale *= slack
        for i, (d2, error) in enumerate(zip(gram, scale, strict=True), start):
            d2[item_ids == ids[i]] = np.inf
            bound = np.partition(d2 + error, counts[i] - 1)[counts[i] - 1]
            near = np.flatnonzero(d2 - error <= bound)
            yield i, near, np.square(items[near] - query[i]).sum(axis=1)
