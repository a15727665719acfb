import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.labels import check_ids


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_classes_and_void_pass(dtype):
    check_ids("labels", np.array([[0, 2], [255, 1]], dtype), 3, 255)
    check_ids("labels", jnp.array([], dtype), 3, 255)


@pytest.mark.parametrize(
    ("ids", "ignore", "message"),
    [
        ([0, 3], 255, r"labels must be in 0\.\.2 or 255, which is void; got 3\. "),
        ([-1, 7, 7, 9], 255, "got -1, 7, 9"),
        ([255], None, r"labels must be in 0\.\.2; got 255"),
        (list(range(3, 20)), 255, r"got 3, 4, 5, 6, 7, 8, 9, 10, \.\.\."),
    ],
)
def test_other_ids_are_named(ids, ignore, message):
    with pytest.raises(ValueError, match=message):
        check_ids("labels", np.array(ids), 3, ignore)


def test_traced_ids_pass_unseen():
    def checked(x):
        check_ids("labels", x, 3, 255)
        return x

    jax.jit(checked)(np.array([7]))
