import numpy as np
import pytest

from zoo.ops.crop import centre_crop


def test_the_middle_by_hand():
    x = np.arange(2 * 5 * 4).reshape(2, 5, 4)
    np.testing.assert_array_equal(centre_crop(x, (2, 2)), x[:, 1:3, 1:3])
    np.testing.assert_array_equal(centre_crop(x[..., None], (5, 1)), x[:, :, 1:2, None])
    np.testing.assert_array_equal(centre_crop(x, (5, 4)), x)


def test_more_than_there_is_is_refused():
    with pytest.raises(ValueError, match=r"cannot cut \(6, 4\) out of \(5, 4\)"):
        centre_crop(np.zeros((1, 5, 4)), (6, 4))
