import numpy as np
import pytest

from zoo.ops.upsample import depth_to_space


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_depth_to_space_matches_torch(variant, peer, factor):
    torch = peer("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4 * factor**2)).astype(np.float32)
    # PyTorch orders the channels (c, row, column), we (row, column, c).
    theirs = x.reshape(2, 3, 5, factor, factor, 4).transpose(0, 5, 3, 4, 1, 2)
    theirs = torch.from_numpy(theirs.reshape(2, 4 * factor**2, 3, 5).copy())
    want = torch.nn.functional.pixel_shuffle(theirs, factor).permute(0, 2, 3, 1)
    got = variant(lambda x: depth_to_space(x, factor))(x)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("shape", "factor"), [((1, 2, 2, 6), 2), ((2, 2, 4), 2), ((1, 2, 2, 4), 0)]
)
def test_depth_to_space_refuses(shape, factor):
    with pytest.raises(ValueError, match="depth_to_space"):
        depth_to_space(np.zeros(shape), factor)
