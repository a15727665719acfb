import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.losses import batch_all_triplet
from zoo.losses.masks import negative_mask, num_triplets, positive_mask, triplet_mask

LOW, HIGH = np.iinfo(np.int32).min, np.iinfo(np.int32).max
LABELS = np.array([3, LOW, 3, -1, HIGH, LOW, 3, -1, 0], np.int32)
VALID = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1], bool)


def loops(labels, valid):
    """The three masks, by their definitions."""
    b = len(labels)
    positive, negative = np.zeros((2, b, b), bool)
    triplets = np.zeros((b, b, b), bool)
    for i in range(b):
        for j in range(b):
            if valid[i] and valid[j] and i != j:
                (positive if labels[i] == labels[j] else negative)[i, j] = True
    for i, j, k in np.ndindex(triplets.shape):
        triplets[i, j, k] = positive[i, j] and negative[i, k]
    return positive, negative, triplets


@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "padded"])
@pytest.mark.parametrize("anchors", [None, np.array([6, 0, 2])], ids=["all", "some"])
def test_masks_match_loops(variant, valid, anchors):
    def all_of_them(labels, valid, anchors):
        masks = positive_mask, negative_mask, triplet_mask, num_triplets
        return [mask(labels, valid=valid, anchors=anchors) for mask in masks]

    *got, number = variant(all_of_them)(LABELS, valid, anchors)
    want = loops(LABELS, np.ones(9, bool) if valid is None else valid)
    for mine, mask in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, mask if anchors is None else mask[anchors])
    assert number == got[-1].sum() > 0


@pytest.mark.parametrize(("p", "k"), [(4, 3), (1, 5), (5, 1), (1, 1), (2, 1024)])
def test_num_triplets_is_the_formula(p, k):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(p), k)).astype(np.int32)
    want = p * k * (k - 1) * (p * k - k)  # Of 2 x 1024 it is more than int32 holds.
    np.testing.assert_allclose(jax.jit(num_triplets)(labels), want, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "valid", "message"),
    [
        (np.zeros(3, np.float32), None, r"integers \[b\]; got float32"),
        (np.zeros(3, bool), None, r"integers \[b\]; got bool"),
        (np.zeros((3, 1), np.int32), None, r"got int32 \(3, 1\)"),
        (np.array([0, 2**31]), None, "fit int32; got 0 to 2147483648: renumber"),
        (np.array([-(2**31) - 1, 0]), None, "fit int32; got -2147483649 to 0"),
        (np.zeros(3, np.int32), np.ones(4, bool), r"one a row, \(3,\); got bool \(4,\)"),
        (np.zeros(3, np.int32), np.ones(3), "valid must be bool"),
    ],
)
def test_refuses(labels, valid, message):
    for mask in (positive_mask, negative_mask, triplet_mask, num_triplets):
        with pytest.raises(ValueError, match=message):
            mask(labels, valid=valid)


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (np.array([0, -1]), r"rows, 0\.\.2; got -1 to 0"),
        (np.array([3]), r"rows, 0\.\.2; got 3 to 3"),
        (np.array([[0]]), r"integers \[a\]; got int64 \(1, 1\)"),
        (np.array([0.0]), r"integers \[a\]; got float64"),
    ],
)
def test_refuses_anchors_that_are_no_rows(anchors, message):
    labels, points = np.array([0, 1, 0]), np.eye(3, dtype=np.float32)
    for mask in (positive_mask, negative_mask, triplet_mask, num_triplets):
        with pytest.raises(ValueError, match=message):
            mask(labels, anchors=anchors)
    with pytest.raises(ValueError, match=message):
        batch_all_triplet(points, labels, margin=0.2, anchors=anchors)


def test_anchors_known_before_jit_are_taken_within_it():
    """As those that a function closes over, which `jnp` would trace."""
    labels, anchors = jnp.array([0, 1, 0, 1]), jnp.array([2, 0])
    got = jax.jit(lambda labels: positive_mask(labels, anchors=anchors))(labels)
    np.testing.assert_array_equal(got, positive_mask(labels)[anchors])


def test_int64_labels_within_int32_are_taken():
    np.testing.assert_array_equal(positive_mask(LABELS.astype(np.int64)), positive_mask(LABELS))
