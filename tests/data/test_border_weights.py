import numpy as np
import pytest
from scipy import ndimage

from zoo.data.border_weights import border_weights

VOID = 255


def reference(label, cell=0, weight=10.0, sigma=5.0):
    """Eq. 2 of the U-Net paper without its first term: every distance by itself, in float64."""
    cells, count = ndimage.label(label == cell)
    height, width = label.shape
    borders = [[] for _ in range(count)]
    for y, x in np.argwhere(cells > 0):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= v < height and 0 <= u < width
            if inside and label[v, u] != cell and label[v, u] != VOID:
                borders[cells[y, x] - 1].append((y, x))
                break
    weights = np.zeros(label.shape)
    for y, x in np.argwhere(label != VOID):
        d = [np.hypot(*(np.array(b) - (y, x)).T).min() for b in borders if b]
        if len(d) >= 2:
            d1, d2 = sorted(d)[:2]
            weights[y, x] = weight * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return weights


def blobs(shape=(40, 37), seed=0):
    """Cells of class 0 parted by class 1, with a hole, a cell in a cell and a strip of void."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    label = (np.abs(noise) < 0.05).astype(np.uint8)
    label[5:9, 5:9] = 1
    label[6:8, 6:8] = 0
    label[:, 20:22] = VOID
    return label


@pytest.mark.parametrize("options", [{}, {"cell": 1}, {"weight": 3.0, "sigma": 2.0}])
def test_equals_the_loop_over_cells(options):
    label = blobs()
    assert ndimage.label(label == options.get("cell", 0))[1] >= 5
    got, want = border_weights(label, VOID, **options), reference(label, **options)
    assert got.dtype == np.float32 and (got[label == VOID] == 0).all()
    # Cut off beyond 6 sigma, where the term is exp(-18).
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-8 * options.get("weight", 10.0))
    assert want.max() > 0.5 * options.get("weight", 10.0)


def test_the_paper_s_numbers_by_hand():
    # Two cells with one pixel between: there d1 = d2 = 1, on their borders 0 and 2.
    label = np.array([[0, 0, 0, 1, 0, 0, 0]])
    got = border_weights(label, VOID)
    between, border, behind = 10 * np.exp([-4 / 50, -4 / 50, -16 / 50])
    np.testing.assert_allclose(got[0, 1:4], [behind, border, between], rtol=1e-6)
    np.testing.assert_allclose(got, got[:, ::-1])


@pytest.mark.parametrize("label", [np.zeros((4, 5), int), np.ones((4, 5), int), np.eye(1, 9, 8)])
def test_fewer_than_two_cells_weigh_nothing(label):
    assert (border_weights(label, VOID) == 0).all()


def test_neither_void_nor_the_edge_is_a_border():
    # The left cell's only neighbours are void: no border, so the two on the right have only theirs.
    label = np.array([[0, 0, VOID, VOID, 0, 1, 0]])
    assert ndimage.label(label == 0)[1] == 3
    np.testing.assert_allclose(border_weights(label, VOID), reference(label), rtol=1e-6)
    assert border_weights(label[:, :6], VOID).max() == 0


def test_a_wrong_sigma_is_refused():
    with pytest.raises(ValueError, match="sigma > 0, in pixels; got 0"):
        border_weights(np.zeros((2, 2), int), VOID, sigma=0)
