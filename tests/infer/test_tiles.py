import itertools

import numpy as np
import pytest

from zoo.infer.tiles import Geometry, plan

SAME = Geometry(stride=4, halo=5)
VALID = Geometry(stride=4, halo=9, margin=6, legal=32)


@pytest.mark.parametrize("blend", ["cosine", "linear"])
@pytest.mark.parametrize("geometry", [SAME, VALID])
def test_windows_cover_every_pixel_once(geometry, blend):
    for size, tile, overlap in itertools.product(
        (1, 2, 31, 32, 33, 97, 128), (32, 40, 64), (None, 0, 1, 7, 10)
    ):
        side = plan(size, geometry, tile=tile, overlap=overlap, blend=blend)
        assert side.window <= tile
        total = np.zeros(size)
        for start, output, weights in zip(side.starts, side.outputs, side.weights, strict=True):
            assert start % 4 == side.before % 4 == 0
            assert output == start - side.before + geometry.margin
            assert start + side.window <= side.before + size + side.after
            for i, weight in enumerate(weights):
                assert 0 <= weight <= 1
                if 0 <= output + i < size:
                    total[output + i] += weight
                else:
                    assert weight == 0
        np.testing.assert_allclose(total, 1, atol=1e-6)
        assert side.starts[-1] + side.window == side.before + size + side.after
        if geometry is SAME:
            # What the model would pad by itself.
            assert side.after == (0 if size <= tile else -size % 4)
        shared = [a + side.weights.shape[1] - b for a, b in itertools.pairwise(side.outputs)]
        assert all(n >= (overlap or 0) for n in shared)


def test_what_a_cut_border_reaches_weighs_nothing():
    for overlap in (10, 12, 16):
        side = plan(100, SAME, tile=32, overlap=overlap)
        assert len(side.starts) > 2
        for weights in side.weights[1:]:
            assert not weights[:5].any()
        for weights in side.weights[:-1]:
            assert not weights[-5:].any()
    assert plan(100, SAME, tile=32).starts == plan(100, SAME, tile=32, overlap=10).starts


def test_linear_fade_by_hand():
    side = plan(12, Geometry(stride=1, halo=0), tile=8, overlap=4, blend="linear")
    assert side.starts == (0, 4)
    np.testing.assert_allclose(side.weights[0], [1, 1, 1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8], atol=1e-6)
    np.testing.assert_allclose(side.weights[1], [1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1, 1, 1], atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="Tiles of 30 px .* multiples of 4, .* the next is 32"):
        plan(100, SAME, tile=30)
    with pytest.raises(ValueError, match="the next is 8"):
        plan(100, SAME, tile=4)
    for overlap in (-1, 17):
        with pytest.raises(
            ValueError, match=rf"overlap of {overlap} does not fit .* in 0\.\.16 .* such an overlap"
        ):
            plan(100, SAME, tile=32, overlap=overlap)
    with pytest.raises(ValueError, match="takes 12 px off it and needs 16"):
        plan(100, VALID, tile=15)
    with pytest.raises(ValueError, match="'cosine' or 'linear'; got 'hard'"):
        plan(100, SAME, tile=32, blend="hard")
