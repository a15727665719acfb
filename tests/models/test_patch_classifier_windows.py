import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from patch_nets import every
from support import equal, initialised, picture
from zoo.models import PatchClassifier

# Which windows there are.


def legal(window, kernels, pool):
    """Whether convolutions and poolings go through a window and leave something of it, by hand."""
    for k in kernels:
        window -= k - 1
        if window < pool or window % pool:
            return False
        window //= pool
    return True


@pytest.mark.parametrize(("kernels", "pool"), [((4, 5, 4, 4), 2), ((3, 2), 2), ((3, 3), 3)])
def test_legal_windows(kernels, pool):
    """All sides up to 100: those through which the layers go, and in the message the nearest."""
    sides = range(1, 130)
    good = [side for side in sides if legal(side, kernels, pool)]
    if len(kernels) == 4:
        assert good[:3] == [63, 79, 95]
    image = jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)
    for side in (1, 2, *range(good[0] - 2, good[0] + 10)):
        model = PatchClassifier(2, window=side, kernels=kernels, pool=pool, width=1, hidden=1)
        if side in good:
            jax.eval_shape(model.init, jax.random.key(0), image)
            continue
        below = max([n for n in good if n < side], default=good[0])
        above = good[good.index(below) + 1]
        with pytest.raises(ValueError, match=rf"must be {below} or {above}, with .*; got {side}\."):
            jax.eval_shape(model.init, jax.random.key(0), image)


# Work.


def flops(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def test_windows_share_their_work():
    """FLOPs are those counted by hand; what sliding wastes grows with the window."""
    ratios = []
    image = np.zeros((1, 64, 64, 1), np.float32)
    for window in (15, 19, 23):
        model = PatchClassifier(2, window=window, kernels=(4, 3), width=4, hidden=6)
        variables = initialised(model, image)
        patch = np.zeros((1, window, window, 1), np.float32)
        one = flops(functools.partial(model.apply, method="classify"), variables, patch)
        whole = flops(model.apply, variables, image)
        a, b = window - 3, (window - 3) // 2 - 2
        left = b // 2
        # Twice the multiplications; ReLU, poolings and biases add a little.
        convs = a * a * 16 * 4 + b * b * 9 * 4 * 4 + left * left * 4 * 6 + 6 * 2
        assert 1 < one / (2 * convs) < 1.25
        a, b, c = 64 + window - 4, 64 + window - 5 - 4, 64
        convs = a * a * 16 * 4 + b * b * 9 * 4 * 4 + c * c * (left * left * 4 * 6 + 6 * 2)
        assert 1 < whole / (2 * convs) < 1.25
        ratios.append(64 * 64 * one / whole)
    assert 10 < ratios[0] < ratios[1] < ratios[2]


# Symmetry and reach.


@every
def test_halo_is_how_far_a_pixel_sees(model):
    side = model.halo
    image = picture(1, 2 * side + 1, 2 * side + 1, 1)
    # Positive weights: nothing cancels and no ReLU is dead.
    variables = jax.tree.map(jnp.abs, initialised(model, image))
    apply = jax.jit(model.apply)
    # Whatever stands there, one bright pixel is the maximum of every window that it is in.
    bright = np.stack([image[0], *4 * [image[0]]])
    for row, (y, x) in enumerate([(0, side), (side, 0), (-1, side), (side, -1)], start=1):
        bright[row, y, x] = 99
    wide = np.pad(bright, ((0, 0), (1, 1), (1, 1), (0, 0)))  # The same, a pixel farther away.
    for pictures, at in ((bright, side), (wide, side + 1)):
        logits = apply(variables, pictures)[:, at, at]
        changed = (np.abs(logits[1:] - logits[0]) > 1e-3 * np.abs(logits[0])).any(1)
        assert changed.tolist() == [True, True, *2 * [bool(model.window % 2)]]
    far = wide.copy()
    far[:, [0, -1]] = far[:, :, [0, -1]] = 99
    np.testing.assert_allclose(apply(variables, far)[0, side + 1, side + 1], logits[0], rtol=1e-6)


@every
def test_translation_and_tiles_with_a_halo_equal_the_whole(model):
    image = picture(1, 60, 60, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)
    whole, halo = apply(variables, image), model.halo
    tile = apply(variables, image[:, 3:43, 4:44])
    inside = slice(halo, 40 - halo)
    equal(tile[:, inside, inside], whole[:, 3:43, 4:44][:, inside, inside])
