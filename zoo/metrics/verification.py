"""Same or different on the host: a pair is accepted where distance <= threshold.

Thresholds lie midway between neighbouring distances (or just below the least, or on the largest).
"""

import numpy as np


def verification_scores(distances: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """ROC, equal error rate and best threshold of pairs.

    FAR is the share of different pairs accepted, TAR that of same pairs, FRR = 1 - TAR.

        roc_auc             area under TAR over FAR: a tie of same and different counts half
        eer                 FAR = FRR, between the ROC's points by linear interpolation
        eer_threshold       |FAR - FRR| is least; the smallest such
        eer_threshold_far   FAR there, which differs from `eer` where pairs are few
        tar_at_far_0.1      (0.01, 0.001, 0.0001) largest TAR of a threshold with no more FAR;
                            nan where different pairs are fewer than 1 / FAR
        threshold           accuracy is best; the smallest such
        accuracy, far, frr  at `threshold`

    Takes distances [n], finite, which may be negative (minus a verifier's logit), and bool [n].
    Raises ValueError where one is impossible, or all pairs are of one kind.
    """
    from sklearn.metrics import roc_auc_score  # Here, as its import takes a second.

    distances, same = _check(distances, same)
    thresholds, right, wrong = _curve(distances, same)
    positives, negatives = right[-1], wrong[-1]
    far, frr = wrong / negatives, (positives - right) / positives
    gap = wrong * positives - (positives - right) * negatives  # FAR - FRR in whole numbers: exact.
    best, even = np.argmax(right - wrong), np.argmin(np.abs(gap))
    scores = {
        "roc_auc": roc_auc_score(same, -distances),
        "eer": np.interp(0.0, gap, far),
        "eer_threshold": thresholds[even],
        "eer_threshold_far": far[even],
        "threshold": thresholds[best],
        "accuracy": (right[best] + negatives - wrong[best]) / len(same),
        "far": far[best],
        "frr": frr[best],
    }
    for n in (10, 100, 1000, 10_000):
        tar = right[wrong * n <= negatives].max() / positives
        scores[f"tar_at_far_{1 / n:g}"] = tar if negatives >= n else np.nan
    return {name: float(score) for name, score in scores.items()}


def lfw_protocol(distances: np.ndarray, same: np.ndarray, *, folds: int | np.ndarray = 10) -> dict:
    """Accuracy on each fold at the threshold that is best on all others together.

    Huang et al., "Labeled Faces in the Wild", UMass TR 07-49, 2007: "accuracy" is the
    mean over the folds, "standard_error" their deviation / sqrt(folds). `folds` says how many,
    the pairs standing fold after fold as in LFW's list; or, [n] integers, the fold of each pair.
    Raises ValueError as `verification_scores`, also without some fold, and for less than two folds.
    """
    distances, same = _check(distances, same)
    n, fold = len(same), np.asarray(folds)
    if fold.ndim == 0 and 2 <= folds <= n:
        fold = np.arange(n) * folds // n
    names = np.unique(fold)
    if fold.shape != same.shape or fold.dtype.kind not in "iu" or len(names) < 2:
        raise ValueError(f"folds must be in 2..{n}, or {n} integers, not all equal; got {folds}.")
    accuracies = []
    for name in names:
        held = fold == name
        thresholds, right, wrong = _curve(*_check(distances[~held], same[~held]))
        accept = distances[held] <= thresholds[np.argmax(right - wrong)]
        accuracies.append(np.mean(accept == same[held]))
    error = np.std(accuracies, ddof=1) / np.sqrt(len(names))
    return {"accuracy": float(np.mean(accuracies)), "standard_error": float(error)}


def _check(distances: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distances, same = np.asarray(distances, np.float64), np.asarray(same)
    if distances.ndim != 1 or same.shape != distances.shape or same.dtype != bool:
        got = f"{distances.shape} and {same.dtype} {same.shape}"
        raise ValueError(f"Distances must be [n] and same [n] bool; got {got}.")
    if not np.isfinite(distances).all():
        raise ValueError("Distances must be finite; got nan or inf.")
    if same.all() or not same.any():
        raise ValueError(f"Give same and different pairs; got {same.sum()} same of {len(same)}.")
    return distances, same


def _curve(distances: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rising thresholds; how many same pairs, and how many different ones, each accepts."""
    from sklearn.metrics import roc_curve

    far, tar, scores = roc_curve(same, -distances, drop_intermediate=False)
    d = -scores[1:]  # The first accepts nothing.
    middle = d[:-1] / 2 + d[1:] / 2
    middle = np.where(middle < d[1:], middle, d[:-1])  # Between neighbouring floats is none.
    thresholds = np.concatenate([[np.nextafter(d[0], -np.inf)], middle, d[-1:]])
    # Counts again, so that ties of accuracies and FARs are exact.
    return thresholds, np.rint(tar * same.sum()), np.rint(far * np.sum(~same))
