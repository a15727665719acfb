import itertools

import numpy as np
import pytest
import sklearn.metrics as sk

from zoo.metrics.verification import lfw_protocol, verification_scores


def example(seed, n=200, ties=True):
    """Same pairs are nearer on the whole; distances are negative too and mostly tied."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.4
    d = rng.normal(size=n) * 2 + 3 * ~same - 2
    return (np.round(d * 2) / 2 if ties else d), same


def rates(d, same, threshold):
    accept = d <= threshold
    return np.mean(accept[~same]), np.mean(~accept[same]), np.mean(accept == same)


def brute_force(d, same):
    """Every threshold that can differ, in rising order; each counted by itself."""
    levels = sorted(set(d.tolist()))
    middle = [(a + b) / 2 for a, b in itertools.pairwise(levels)]
    points = [(t, *rates(d, same, t)) for t in [levels[0] - 1e-9, *middle, levels[-1]]]
    best = max(points, key=lambda p: (round(p[3] * len(d)), -p[0]))
    near = min(points, key=lambda p: (round(abs(p[1] - p[2]), 12), p[0]))
    want = {"threshold": best[0], "far": best[1], "frr": best[2], "accuracy": best[3]}
    want["eer_threshold"], want["eer_threshold_far"] = near[:2]
    for far in (0.1, 0.01, 0.001, 0.0001):
        tar = max(1 - p[2] for p in points if p[1] <= far + 1e-12)
        want[f"tar_at_far_{far}"] = tar if np.sum(~same) >= 1 / far else np.nan
    # The line between the last point with FAR < FRR and the next meets FAR = FRR.
    for (_, a, b, _), (_, c, e, _) in itertools.pairwise(points):
        if a < b and c >= e:
            line = [[e - b, a - c], [1, -1]]
            want["eer"] = np.linalg.solve(line, [a * (e - b) - b * (c - a), 0])[0]
    want["roc_auc"] = np.mean((d[same][:, None] < d[~same]) + 0.5 * (d[same][:, None] == d[~same]))
    return want


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_matches_brute_force(seed, ties):
    d, same = example(seed, ties=ties)
    got, want = verification_scores(d, same), brute_force(d, same)
    assert set(got) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-8, atol=1e-12, err_msg=name)


def test_matches_sklearn():
    d, same = example(7, n=30_000, ties=False)
    got = verification_scores(d, same)
    far, tar, _ = sk.roc_curve(same, -d)
    assert got["roc_auc"] == pytest.approx(sk.roc_auc_score(same, -d), rel=1e-12)
    assert got["eer"] == pytest.approx(far[np.argmin(np.abs(far - (1 - tar)))], abs=1e-4)
    for target in (0.1, 0.01, 0.001, 0.0001):
        # Here the ROC's points lie so close that the interpolated curve says the same.
        want = np.interp(target, far, tar)
        assert got[f"tar_at_far_{target}"] == pytest.approx(want, abs=2e-3)
    assert got["accuracy"] == sk.accuracy_score(same, d <= got["threshold"])


def test_by_hand():
    d = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    same = np.array([True, True, False, True, False, False])
    got = verification_scores(d, same)
    # 8 of the 9 (same, different) are in order. After 3: FAR = FRR = 1/3. Accuracy 5/6 from 2 to
    # 3 and from 4 to 5: the smaller counts.
    assert got["roc_auc"] == pytest.approx(8 / 9)
    assert got["eer"] == pytest.approx(1 / 3)
    assert got["eer_threshold"] == 3.5 and got["eer_threshold_far"] == pytest.approx(1 / 3)
    assert (got["threshold"], got["far"]) == (2.5, 0.0)
    assert got["frr"] == pytest.approx(1 / 3) and got["accuracy"] == pytest.approx(5 / 6)
    assert np.isnan([got[f"tar_at_far_{f}"] for f in ("0.1", "0.01", "0.001", "0.0001")]).all()


def test_the_share_that_passes_is_not_the_interpolated_one():
    """Up to 0.35 one of two different pairs passes, and no same pair is missed."""
    d, same = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([True, True, False, True, False])
    got = verification_scores(d, same)
    passed = np.mean(d[~same] <= got["eer_threshold"])
    assert got["eer_threshold_far"] == passed == 0.5 and got["eer"] == pytest.approx(1 / 3)


def test_perfect_and_hopeless():
    d, same = np.array([-3.0, -1.0, 4.0, 6.0]), np.array([True, True, False, False])
    got = verification_scores(d, same)
    assert (got["roc_auc"], got["eer"], got["accuracy"], got["threshold"]) == (1, 0, 1, 1.5)
    got = verification_scores(-d, same)
    assert (got["roc_auc"], got["eer"], got["accuracy"]) == (0, 1, 0.5)
    # Nothing is accepted: below the least.
    assert got["threshold"] == np.nextafter(-6.0, -np.inf) and got["frr"] == 1


def test_equal_distances_are_decided_alike():
    same = np.array([True] * 3 + [False] * 7)
    got = verification_scores(np.full(10, 2.0, np.float32), same)
    assert (got["roc_auc"], got["eer"], got["accuracy"], got["far"]) == (0.5, 0.5, 0.7, 0)
    got = verification_scores(np.full(10, 2.0), ~same)
    assert (got["threshold"], got["far"], got["frr"]) == (2.0, 1, 0)


def test_no_middle_between_neighbouring_floats():
    a = 1.0
    for _ in range(4):  # The middle rounds up or down to the even one of the two.
        b = np.nextafter(a, 2)
        assert verification_scores(np.array([a, b]), np.array([True, False]))["threshold"] == a
        a = b


def test_far_is_resolved_from_as_many_negatives_as_needed():
    for n in (9, 10, 999, 1000):
        d = np.concatenate([[0.5], np.arange(n)])
        got = verification_scores(d, np.arange(n + 1) == 0)
        # The pair at 0 is one in n: accepted with the same pair at 0.5 where 1 / n is allowed.
        want = {9: [np.nan] * 2, 10: [1, np.nan], 999: [1, np.nan], 1000: [1, 1]}[n]
        np.testing.assert_equal([got["tar_at_far_0.1"], got["tar_at_far_0.001"]], want)


@pytest.mark.parametrize("ties", [False, True])
def test_lfw_protocol_matches_a_loop(ties):
    d, same = example(3, ties=ties)
    accuracies = []
    for f in range(10):
        held = np.zeros(200, bool)
        held[20 * f : 20 * f + 20] = True
        threshold = brute_force(d[~held], same[~held])["threshold"]
        accuracies.append(rates(d[held], same[held], threshold)[2])
    got = lfw_protocol(d, same)
    assert got["accuracy"] == pytest.approx(np.mean(accuracies), rel=1e-12)
    # Huang et al.: sigma = sqrt(sum (p_i - mean)^2 / 9), S_E = sigma / sqrt(10).
    sigma = np.sqrt(sum((p - np.mean(accuracies)) ** 2 for p in accuracies) / 9)
    assert got["standard_error"] == pytest.approx(sigma / np.sqrt(10), rel=1e-12)

    order = np.random.default_rng(0).permutation(200)
    shuffled = lfw_protocol(d[order], same[order], folds=(np.arange(200) // 20 - 5)[order])
    assert shuffled == pytest.approx(got, rel=1e-12)


def test_lfw_threshold_never_sees_its_fold():
    # Two folds; the second's distances are ten times larger: each one's threshold fails there.
    d = np.array([1.0, 2.0, 1.0, 2.0, 10.0, 20.0, 10.0, 20.0])
    same = np.array([True, False] * 4)
    assert verification_scores(d[:4], same[:4])["accuracy"] == 1
    got = lfw_protocol(d, same, folds=2)
    assert got == {"accuracy": 0.5, "standard_error": 0.0}
    assert lfw_protocol(d, same, folds=8)["accuracy"] < 1


D, S = np.arange(4.0), np.array([True, False, True, False])


@pytest.mark.parametrize("score", [verification_scores, lfw_protocol])
@pytest.mark.parametrize(
    ("d", "same", "message"),
    [
        (D[:3], S, r"got \(3,\) and bool \(4,\)"),
        (D, S.astype(int), r"same \[n\] bool; got \(4,\) and int64"),
        (D[None], S[None], r"got \(1, 4\)"),
        (np.array([0, np.nan, 1, 2]), S, "got nan or inf"),
        (D, S | True, "same and different pairs; got 4 same of 4"),
        (D, S & False, "same and different pairs; got 0 same of 4"),
        (D[:0], S[:0], "got 0 same of 0"),
    ],
)
def test_refuses(score, d, same, message):
    with pytest.raises(ValueError, match=message):
        score(d, same)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (1, r"folds must be in 2\.\.4, .* got 1"),
        (5, r"folds must be in 2\.\.4, .* got 5"),
        (np.array([0, 1]), r"4 integers, not all equal; got \[0 1\]"),
        (np.zeros(4, int), r"not all equal; got \[0 0 0 0\]"),
        (np.arange(4.0), r"4 integers, .* got \[0\. 1\."),
        (2.0, "folds must be .* got 2.0"),
        (np.array([0, 1, 0, 2]), "got 0 same of 2"),
    ],
)
def test_lfw_refuses(folds, message):
    with pytest.raises(ValueError, match=message):
        lfw_protocol(D, S, folds=folds)
