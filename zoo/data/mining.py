"""Triplets mined from the embeddings of a whole training set, in blocks, in plain NumPy."""

import numpy as np

from zoo.data.pairs import Classes

KINDS = ("hard", "semi_hard", "random")
BLOCK = 256  # Anchors at a time; memory holds a few arrays [BLOCK, n] float64.


def mine_triplets_offline(
    embeddings: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    kind: str,
    margin: float,
    squared: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picks one triplet for every anchor that has a positive and a negative.

    - "hard": the farthest positive and the nearest negative.
    - "semi_hard": a random positive, and a random negative of those with
      d_ap < d_an < d_ap + margin (Schroff et al., "FaceNet", CVPR 2015, Sec. 3.2). Where there is
      none, the nearest farther than the positive; where none is farther, the farthest. So the
      number of triplets does not change as the network learns.
    - "random": a random positive and a random negative, uniform as in `make_pairs`.

    Of distances equal to the last bit the lowest index wins. Takes embeddings [n, d] float, integer
    labels [n] and, for "semi_hard", a margin >= 0 in Euclidean distance, or its square.
    Returns anchor, positive and negative, each [m] int64, anchors ascending. Raises ValueError for
    an impossible shape, type, value or option, an embedding that is not finite, and where no anchor
    has both.
    """
    embeddings = np.asarray(embeddings)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    if not 0 <= margin < np.inf:
        raise ValueError(f"margin must be finite and 0 or more; got {margin}.")
    if embeddings.ndim != 2 or np.shape(labels) != embeddings.shape[:1]:
        got = f"{embeddings.shape} and {np.shape(labels)}"
        raise ValueError(f"Mining needs embeddings [n, d] and labels [n]; got {got}.")
    if len(bad := np.flatnonzero(~np.isfinite(embeddings).all(axis=1))):
        problem = f"{len(bad)} of {len(embeddings)} embeddings are not finite, first row {bad[0]}"
        raise ValueError(f"{problem}; training has diverged: lower the learning rate.")
    classes = Classes(labels)
    anchor = classes.anchors()
    # Drawn before the blocks, which so cannot change it.
    positive, negative = classes.positives(anchor, rng), classes.negatives(anchor, rng)
    share = rng.random(len(anchor))
    if kind == "random":
        return anchor, positive, negative
    # Centred, so that float64 loses nothing of close points far from the origin.
    x = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    length2 = np.square(x).sum(axis=1)
    for at in range(0, len(anchor), BLOCK):
        part = slice(at, at + BLOCK)
        rows = anchor[part]
        d = np.maximum(length2[rows, None] + length2 - 2 * (x[rows] @ x.T), 0.0)
        d = d if squared else np.sqrt(d)
        same = classes.of[rows, None] == classes.of
        if kind == "hard":
            negative[part] = np.where(same, np.inf, d).argmin(axis=1)
            same[np.arange(len(d)), rows] = False
            positive[part] = np.where(same, d, -1.0).argmax(axis=1)
        else:
            d_ap = np.take_along_axis(d, positive[part, None], axis=1)
            negative[part] = _semi_hard(d, ~same, d_ap, margin, share[part])
    return anchor, positive, negative


def _semi_hard(d, other, d_ap, margin: float, share: np.ndarray) -> np.ndarray:
    """[b]: of each row the negative that lies at `share` of those within the margin."""
    farther = other & (d > d_ap)
    negative = np.where(farther, d, np.inf).argmin(axis=1)
    none = ~farther.any(axis=1)
    negative[none] = np.where(other[none], d[none], -1.0).argmax(axis=1)
    row, column = np.nonzero(farther & (d < d_ap + margin))
    count = np.bincount(row, minlength=len(d))
    chosen = np.cumsum(count) - count + (share * count).astype(np.int64)
    negative[count > 0] = column[chosen[count > 0]]
    return negative
