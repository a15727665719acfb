import itertools

import numpy as np
import pytest
from scipy import ndimage

from zoo.metrics import boundary_scores, membrane_scores

VOID = 255


# Boundary F1.


def edge_points(mask, known):
    """Pixels of a mask beside a known pixel that is not of it."""
    points = []
    for y, x in np.argwhere(mask & known):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]
            if inside and known[v, u] and not mask[v, u]:
                points.append((y, x))
                break
    return np.array(points, float).reshape(-1, 2)


def loop_f1(prediction, label, k, tolerance):
    """Every point against every point."""
    known, scores = label != VOID, np.full(k, np.nan)
    reach = tolerance * np.sqrt(label.shape[0] ** 2 + label.shape[1] ** 2)
    for c in range(k):
        if c not in label[known]:
            continue
        called, true = (edge_points(ids == c, known) for ids in (prediction, label))
        if len(called) == len(true) == 0:
            continue
        distance = np.sqrt(np.square(called[:, None] - true[None]).sum(-1))
        hits = distance < reach
        precision = hits.any(1).mean() if len(called) and len(true) else 0.0
        recall = hits.any(0).mean() if len(called) and len(true) else 0.0
        both = precision + recall
        scores[c] = 2 * precision * recall / both if both else 0.0
    return scores


def patches(shape, k, seed):
    noise = np.random.default_rng(seed).normal(size=(k, *shape))
    return np.argmax([ndimage.gaussian_filter(x, 2) for x in noise], axis=0)


@pytest.mark.parametrize("tolerance", [0.0075, 0.04, 0.1])
def test_boundary_f1_equals_the_loop_over_points(tolerance):
    label, prediction = patches((30, 41), 4, 0), patches((30, 41), 4, 1)
    prediction[:, :20] = np.roll(label, 1, axis=0)[:, :20]
    label[10:14, 5:30] = VOID
    label[label == 2] = 1  # The truth has no class 2, but the prediction has.
    want = loop_f1(prediction, label, 5, tolerance)
    got = boundary_scores(prediction, label, 5, VOID, tolerance)
    np.testing.assert_allclose(got["boundary_f1"], want, rtol=1e-12)
    assert np.isnan(want[[2, 4]]).all() and (0 < want[[0, 1, 3]]).all()
    np.testing.assert_allclose(got["mean_boundary_f1"], want[[0, 1, 3]].mean())


def test_boundary_f1_by_hand():
    # A bar whose end is drawn two pixels short; the tolerance is 1.5 pixels of a diagonal of 10.
    label = np.zeros((6, 8), int)
    label[2, 1:7] = 1
    prediction = np.zeros((6, 8), int)
    prediction[2, 1:5] = 1
    got = boundary_scores(prediction, label, 2, VOID, 0.15)["boundary_f1"]
    # All 4 predicted pixels are met; of the true 6 the last is 2 away.
    np.testing.assert_allclose(got[1], 2 * 1 * (5 / 6) / (1 + 5 / 6))
    assert (boundary_scores(label, label, 2, VOID, 0.15)["boundary_f1"] == 1).all()
    # Strictly nearer: one pixel away is not within a tolerance of one pixel.
    moved = np.roll(label, 1, axis=0)
    assert boundary_scores(moved, label, 2, VOID, 0.1)["boundary_f1"][1] == 0
    assert boundary_scores(moved, label, 2, VOID, 0.11)["boundary_f1"][1] == 1


def test_classes_without_a_contour():
    flat, half = np.zeros((4, 6), int), np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0)
    scores = boundary_scores(flat, flat, 2, VOID, 0.1)
    assert np.isnan(scores["boundary_f1"]).all() and np.isnan(scores["mean_boundary_f1"])
    np.testing.assert_array_equal(boundary_scores(half, flat, 2, VOID, 0.1)["boundary_f1"][0], 0)
    np.testing.assert_array_equal(boundary_scores(flat, half, 2, VOID, 0.1)["boundary_f1"], 0)
    void = np.full((4, 6), VOID)
    assert np.isnan(boundary_scores(half, void, 2, VOID, 0.1)["mean_boundary_f1"])


def test_bad_boundary_input_is_refused():
    with pytest.raises(ValueError, match=r"must be \[h, w\], of one size; got \(2, 3\)"):
        boundary_scores(np.zeros((2, 3), int), np.zeros((3, 2), int), 2, VOID, 0.1)
    with pytest.raises(ValueError, match=r"must be \[h, w\], of one size; got \(1, 2"):
        membrane_scores(np.zeros((1, 2, 3), int), np.zeros((1, 2, 3), int), 1, VOID)
    right, wrong = np.zeros((2, 3), int), np.array([[0, 1, 7], [0, 0, -1]])
    for name, pair in (("prediction", (wrong, right)), ("label", (right, wrong))):
        with pytest.raises(ValueError, match=rf"{name} must be in 0\.\.2 or 255.*got -1, 7"):
            boundary_scores(*pair, 3, VOID, 0.1)
    for tolerance in (0, -1, np.nan):
        with pytest.raises(ValueError, match=f"of the diagonal, > 0; got {tolerance}"):
            boundary_scores(right, right, 3, VOID, tolerance)


# Rand and information.


def loop_scores(true, segments):
    """Every pair of pixels, a pixel with itself too; entropies by loops over segments."""
    pairs = list(itertools.product(range(len(true)), repeat=2))
    both = sum(true[i] == true[j] and segments[i] == segments[j] for i, j in pairs)
    of_true = sum(true[i] == true[j] for i, j in pairs)
    called = sum(segments[i] == segments[j] for i, j in pairs)

    def entropy(ids):
        shares = [sum(x == y for y in ids) / len(ids) for x in set(ids)]
        return sum(p * -np.log(p) for p in shares)

    h_true, h_called = entropy(true), entropy(segments)
    shared = h_true + h_called - entropy(list(zip(true, segments, strict=True)))
    found = {"rand": (both, of_true, called), "information": (shared, h_called, h_true)}
    return {
        f"{name}_{part}": score
        for name, (x, a, b) in found.items()
        for part, score in (("split", x / a), ("merge", x / b), ("f", 2 * x / (a + b)))
    }


TRUTH = """
aaa|bbb
aaa|bbb
---|bbb
ccc|bbb
"""
MERGED = """
aaa|bbb
aaabbbb
---|bbb
ccc|bbb
"""
SPLIT = """
aaa|bbb
aaa|bbb
---|---
ccc|ddd
"""
NAMES = {"-": 1, "|": 1, "?": VOID}


def drawn(text):
    """Letters are cells, class 0; lines are membrane, class 1."""
    return np.array([[NAMES.get(c, 0) for c in row] for row in text.split()])


def test_merge_and_split_by_hand():
    truth = drawn(TRUTH)
    # True cells of 6, 12 and 3 pixels. a and b, now one: sum n^2 = sum t^2 = 189, sum s^2 = 333.
    merged = membrane_scores(drawn(MERGED), truth, 1, VOID)
    assert merged["rand_split"] == 1 and merged["rand_merge"] == 189 / (18**2 + 3**2)
    entropies = [-(n / 21 * np.log(n / 21)).sum() for n in map(np.array, ([18, 3], [6, 12, 3]))]
    np.testing.assert_allclose(merged["information_merge"], entropies[0] / entropies[1])
    np.testing.assert_allclose(merged["information_split"], 1, rtol=1e-12)
    # Whatever is not membrane is a cell.
    other = np.where(drawn(MERGED) == 0, 2, 1)
    assert membrane_scores(other, truth, 1, VOID) == merged
    # b in two, its membrane given to the nearest: 9 and 3, or 6 and 6, as the tie is broken.
    split = membrane_scores(drawn(SPLIT), truth, 1, VOID)
    assert split["rand_merge"] == 1
    assert split["rand_split"] in (np.array([36 + 81 + 9 + 9, 36 + 36 + 36 + 9]) / 189).tolist()
    np.testing.assert_allclose(split["information_merge"], 1, rtol=1e-12)
    assert all(score == 1 for score in membrane_scores(truth, truth, 1, VOID).values())


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop_over_pairs(seed):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(2, 15, 17)), 1)
    label, prediction = (np.abs(noise) < 0.12).astype(int)
    prediction[:, :8] = label[:, :8]
    label[:2, 10:] = VOID
    cells = ndimage.label(label == 0)[0]
    segments, count = ndimage.label(prediction == 0)
    assert cells.max() > 2 and count > 3
    # The nearest segment of each pixel of membrane, by measuring all; ties are left out.
    places = np.argwhere(segments > 0)
    for y, x in np.argwhere(segments == 0):
        d = np.square(places - (y, x)).sum(1)
        near = set(segments[tuple(places[d == d.min()].T)])
        if len(near) > 1:
            label[y, x] = VOID  # Takes no part.
            cells[y, x] = 0
        segments[y, x] = near.pop()
    # Void cut no cell in two, or its parts would be cells.
    cells = ndimage.label(cells > 0)[0]
    inside = cells > 0
    want = loop_scores(cells[inside].tolist(), segments[inside].tolist())
    got = membrane_scores(prediction, label, 1, VOID)
    assert got.keys() == want.keys()
    for name, score in want.items():
        np.testing.assert_allclose(got[name], score, rtol=1e-9, err_msg=name)


def test_a_prediction_of_membrane_alone_is_pixels_alone():
    truth = drawn(TRUTH)
    got = membrane_scores(np.ones_like(truth), truth, 1, VOID)
    # 21 pixels, each with itself: the authors' (p_i0 / n) term.
    assert got["rand_merge"] == 1 and got["rand_split"] == 21 / 189
    np.testing.assert_allclose(got["information_merge"], 1, rtol=1e-12)
    shares = np.array([6, 12, 3]) / 21
    entropy = -(shares * np.log(shares)).sum()
    np.testing.assert_allclose(got["information_split"], entropy / np.log(21))


def test_scores_that_are_undefined_are_nan():
    one, none = np.zeros((3, 4), int), np.ones((3, 4), int)
    assert all(np.isnan(score) for score in membrane_scores(one, none, 1, VOID).values())
    same = membrane_scores(one, one, 1, VOID)
    assert same["rand_f"] == 1 and np.isnan(same["information_f"])
    parted = one.copy()
    parted[:, 1] = 1
    got = membrane_scores(parted, one, 1, VOID)
    assert got["rand_merge"] == 1 and np.isnan(got["information_merge"])
    assert got["information_split"] == got["information_f"] == 0


def test_four_connected_regions():
    # Two pixels that touch at a corner are two cells; the truth's membrane does not count.
    truth = np.array([[0, 1], [1, 0]])
    got = membrane_scores(np.zeros((2, 2), int), truth, 1, VOID)
    assert got["rand_split"] == 1 and got["rand_merge"] == 0.5
