import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal, initialised, picture
from zoo.models import UNet


@pytest.mark.parametrize("down", ["pool", "conv"])
def test_translation_by_the_stride_moves_the_logits(down):
    model = UNet(2, width=4, depth=2, down=down)
    shift, halo = model.stride, model.halo
    assert shift == 4
    image = picture(1, 80, 80, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)

    def difference(shift):
        moved = apply(variables, np.roll(image, (shift, shift), (1, 2)))
        inner, there = slice(halo, 80 - halo - shift), slice(halo + shift, 80 - halo)
        want = apply(variables, image)[:, inner, inner]
        return np.abs(moved[:, there, there] - want).max() / np.abs(want).max()

    assert difference(shift) <= 1e-5
    assert difference(1) > 1e-2  # Between strides the pooling's phase changes.


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("down", ["pool", "conv"])
def test_halo_is_how_far_a_pixel_sees(depth, down):
    model = UNet(2, width=2, depth=depth, down=down)
    side = 4 * model.stride + 2 * model.halo
    side += -side % model.stride
    image = np.ones((1, side, side, 1), np.float32)
    # Positive weights: nothing cancels and no ReLU is dead.
    variables = jax.tree.map(jnp.abs, initialised(model, image))

    @jax.jit
    def reach(image, y, x):
        """Rows above and below and columns left and right that a pixel's gradient touches."""
        gradient = jax.grad(lambda image: model.apply(variables, image)[0, y, x].sum())(image)
        touched = gradient[0, :, :, 0] != 0
        rows, columns = touched.any(1), touched.any(0)
        first, last = jnp.argmax, lambda a: side - 1 - jnp.argmax(a[::-1])
        return y - first(rows), last(rows) - y, x - first(columns), last(columns) - x

    # One pixel of each phase; equal maxima share a pool's gradient, so none is hidden.
    centre = side // 2 // model.stride * model.stride
    found = [reach(image, centre + i, centre + i) for i in range(model.stride)]
    assert np.max(found) == model.halo


def test_tiles_equal_the_whole_for_valid():
    model = UNet(3, width=4, depth=2, padding="VALID")
    image = picture(1, 84, 76, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)
    whole = apply(variables, image)
    side = 52  # Gives 12, a multiple of 2**depth: tiles abut.
    made = np.full_like(whole, np.nan)
    for y in (0, 12, 24, 32):
        for x in (0, 12, 24):
            tile = image[:, y : y + side, x : x + side]
            made[:, y : y + 12, x : x + 12] = apply(variables, tile)
    equal(made, whole)


def test_tiles_with_a_halo_equal_the_whole_for_same():
    model = UNet(3, width=4, depth=2)
    assert (model.stride, model.halo) == (4, 23)
    image = picture(1, 96, 96, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)
    tile = apply(variables, image[:, 16:76, 16:76])
    equal(tile[:, 24:36, 24:36], apply(variables, image)[:, 40:52, 40:52])
