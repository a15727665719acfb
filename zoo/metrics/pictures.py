"""Scores of one picture [h, w] by itself, on the host; a set's are the means over its pictures."""

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from zoo.ops.labels import check_ids


def boundary_scores(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, ignore_label: int, tolerance: float
) -> dict[str, np.ndarray]:
    """`boundary_f1` [k], how well each class's contour is met, and `mean_boundary_f1`.

    Csurka, Larlus & Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC
    2013. Precision is the share of the predicted contour that is nearer to the true one than
    `tolerance` (> 0, usually 0.0075) times the diagonal, recall that of the true one. Contours are
    pixels with a 4-neighbour of another class; void and the picture's edge make none. A class that
    the truth lacks, or with no contour in either, is nan and not in the mean. ValueError: shapes
    that differ, an id that is neither class nor void, another tolerance.
    """
    _check(prediction, label)
    for name, ids in ("prediction", prediction), ("label", label):
        check_ids(name, ids, num_classes, ignore_label)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a share of the diagonal, > 0; got {tolerance}.")
    known, reach = label != ignore_label, tolerance * np.hypot(*label.shape)
    f1 = np.full(num_classes, np.nan)
    for c in np.unique(label[known]):
        masks = ((ids == c) & known for ids in (prediction, label))
        edges = [m & ~ndimage.binary_erosion(m | ~known, border_value=1) for m in masks]
        points = [np.argwhere(edge) for edge in edges]
        f1[c] = 0 if any(map(len, points)) else np.nan
        if all(map(len, points)):
            pairs = zip(points, points[::-1], strict=True)
            away = (KDTree(b).query(a, distance_upper_bound=reach)[0] for a, b in pairs)
            precision, recall = (np.isfinite(distance).mean() for distance in away)
            f1[c] = 2 * precision * recall / (precision + recall or 1)
    mean = np.nansum(f1) / (np.isfinite(f1).sum() or np.nan)
    return {"mean_boundary_f1": mean, "boundary_f1": f1}


def membrane_scores(
    prediction: np.ndarray, label: np.ndarray, membrane: int, ignore_label: int
) -> dict[str, float]:
    """The ISBI 2012 challenge's foreground-restricted Rand and information scores, 0..1.

    Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
    connectomics", Frontiers in Neuroanatomy 2015, as in the authors' Fiji code. Pixels of the true
    membrane do not count. With n the pixels common to a true cell and a segment, 4-connected both,
    t and s those of each, H the entropies and I = H(t) + H(s) - H(n), `rand_split` is sum n^2 / sum
    t^2, `rand_merge` sum n^2 / sum s^2, `information_split` I / H(s), `information_merge` I / H(t),
    and `_f` twice the part above over the sum of those below; 0 / 0 is nan. Departures: the
    predicted membrane has no width, not that of a line of a pixel; no threshold is searched for.
    """
    _check(prediction, label)
    cells = ndimage.label((label != membrane) & (label != ignore_label))[0]
    segments, count = ndimage.label(prediction != membrane)
    if not count:  # Each pixel of the membrane is a segment.
        segments = np.arange(1, segments.size + 1).reshape(segments.shape)
    nearest = ndimage.distance_transform_edt(segments == 0, None, False, True)  # Places alone.
    cells, segments = cells[cells > 0].astype(np.int64), segments[tuple(nearest)][cells > 0]
    pairs = np.unique(cells * (segments.max(initial=0) + 1) + segments, return_counts=True)[1]
    counts = pairs, np.bincount(cells), np.bincount(segments)
    both, true, called = (np.square(n).sum() for n in counts)
    # Shares, not counts: the entropy of one alone is then exactly 0.
    h = [-(p * np.log(p)).sum() for p in (n[n > 0] / len(cells) for n in counts)]
    found, shared = {}, h[1] + h[2] - h[0]
    with np.errstate(invalid="ignore"):
        for name, x, a, b in ("rand", both, true, called), ("information", shared, *h[:0:-1]):
            found |= {f"{name}_split": x / a, f"{name}_merge": x / b, f"{name}_f": 2 * x / (a + b)}
    return found


def _check(prediction: np.ndarray, label: np.ndarray) -> None:
    if prediction.shape != label.shape or label.ndim != 2:
        got = f"{prediction.shape} and {label.shape}"
        raise ValueError(f"prediction and label must be [h, w], of one size; got {got}.")
