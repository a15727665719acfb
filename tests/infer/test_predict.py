import functools
import tracemalloc

import cv2
import jax
import numpy as np
import pytest
from flax import linen as nn

from zoo.data.images import Preprocess
from zoo.infer.predict import _program, check_tiling, logit_strips, predict, predict_logits
from zoo.models.unet import UNet

RNG = np.random.default_rng(0)


class Identity(nn.Module):
    """Its logits are the picture."""

    stride: int = 1
    halo: int = 0
    margin: int = 0  # Taken off each end, as unpadded convolutions do.

    def __call__(self, image, *, train=False):
        m = self.margin
        return image[:, m : image.shape[1] - m, m : image.shape[2] - m]


class OneHot(Identity):
    """Its classes are the picture's values."""

    num_classes: int = 5

    def __call__(self, image, *, train=False):
        return jax.nn.one_hot(image[..., 0].round().astype(int), self.num_classes)


AS_IS = Preprocess(1, (0.0,), (1 / 255,))  # Leaves the values 0..255.


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("blend", ["cosine", "linear"])
@pytest.mark.parametrize(("tile", "overlap"), [(16, None), (16, 0), (16, 3), (24, 7), (32, 12)])
@pytest.mark.parametrize(
    "model", [Identity(), Identity(stride=4, halo=5), Identity(stride=4, halo=5, margin=3)]
)
def test_an_identity_model_gives_back_the_picture(model, tile, overlap, blend, flips):
    for size in ((1, 1), (3, 50), (37, 61), (64, 16), (33, 23)):
        x = RNG.normal(size=(*size, 2)).astype(np.float32)
        got = predict_logits(model, {}, x, tile=tile, overlap=overlap, blend=blend, flips=flips)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, x, atol=1e-6 * np.abs(x).max())


@pytest.mark.parametrize("size", [(1, 1), (15, 40), (41, 67)])
def test_ids_come_back_at_any_size(size):
    ids = RNG.integers(0, 5, size)
    got = predict(OneHot(), {}, ids.astype(np.uint8)[..., None], preprocess=AS_IS, tile=16)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, ids)


@functools.cache
def unet(channels=1, **fields):
    """A small U-Net with random parameters, biases too; JAX's own `init` takes long to compile."""
    model = UNet(num_classes=3, width=4, depth=2, **fields)
    image = jax.ShapeDtypeStruct((1, 60, 60, channels), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(1)

    def draw(leaf):
        std = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.1
        return rng.normal(0, std, leaf.shape).astype(np.float32)

    return model, jax.tree.map(draw, shapes)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, x):
    return model.apply(variables, x[None])[0]


def close(got, want):
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("size", [(30, 21), (64, 64)])
def test_a_picture_up_to_the_tile_is_one_call_of_the_model(size):
    model, variables = unet()
    x = RNG.normal(size=(*size, 1)).astype(np.float32)
    want = apply(model, variables, x)
    np.testing.assert_array_equal(predict_logits(model, variables, x, tile=64), want)


@pytest.mark.parametrize("size", [(97, 131), (70, 40), (50, 200)])
def test_tiles_of_a_unet_equal_the_whole_picture(size):
    model, variables = unet()
    assert 2 * model.halo <= 48
    x = RNG.normal(size=(*size, 1)).astype(np.float32)
    want = apply(model, variables, x)
    for overlap in (None, 2 * model.halo, 48):
        close(predict_logits(model, variables, x, tile=96, overlap=overlap), want)


def test_less_overlap_than_the_halo_changes_little():
    model, variables = unet()
    x = RNG.normal(size=(97, 131, 1)).astype(np.float32)
    want = apply(model, variables, x)
    got = predict_logits(model, variables, x, tile=64, overlap=16)
    assert 0 < np.abs(got - want).max() < 0.5 * np.abs(want).max()


@pytest.mark.parametrize("tile", [None, 64, 70])
def test_an_unpadded_unet_predicts_every_pixel(tile):
    model, variables = unet(padding="VALID")
    x = RNG.normal(size=(92, 108, 1)).astype(np.float32)
    got = predict_logits(model, variables, x, tile=tile)
    assert got.shape == (92, 108, 3)
    # Where the picture itself is enough, its own logits; evaluation scores these.
    margin = (12 * 4 - 8) // 2
    close(got[margin:-margin, margin:-margin], apply(model, variables, x))
    # At the border, those of the mirrored picture.
    mirrored = np.pad(x, ((20, 36), (20, 36), (0, 0)), "reflect")
    close(got, apply(model, variables, mirrored)[:92, :108])


@pytest.mark.parametrize("size", [(1, 1), (7, 5)])
def test_an_unpadded_unet_predicts_tiny_pictures(size):
    model, variables = unet(padding="VALID")
    x = RNG.normal(size=(*size, 1)).astype(np.float32)
    assert predict_logits(model, variables, x).shape == (*size, 3)


def test_flips_average_with_the_mirror_image():
    model, variables = unet()
    x = RNG.normal(size=(24, 32, 1)).astype(np.float32)
    plain, mirrored = (apply(model, variables, y) for y in (x, x[:, ::-1]))
    got = predict_logits(model, variables, x, flips=True)
    close(got, (plain + mirrored[:, ::-1]) / 2)
    close(predict_logits(model, variables, x[:, ::-1], flips=True), got[:, ::-1])


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("size", [(30, 50), (9, 7)])
def test_a_resized_picture_is_predicted_at_its_own_size(size, flips):
    model, variables = unet(channels=3)
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    prepare = Preprocess(3, (0.5,) * 3, (0.25,) * 3, size=(16, 24))
    logits = np.asarray(apply(model, variables, prepare(image)))
    if flips:
        mirrored = np.asarray(apply(model, variables, prepare(image)[:, ::-1]))
        logits = (logits + mirrored[:, ::-1]) / 2
    want = cv2.resize(logits, size[::-1], interpolation=cv2.INTER_LINEAR)
    ids = predict(model, variables, image, preprocess=prepare, tile=8, flips=flips)
    assert ids.shape == size
    top = np.sort(want, -1)
    clear = top[..., -1] - top[..., -2] > 1e-4
    np.testing.assert_array_equal(ids[clear], want.argmax(-1)[clear])


def test_memory_is_that_of_a_strip_of_tiles():
    k = 64
    x = RNG.normal(size=(4096, 64, k)).astype(np.float32)
    strip = 64 * 64 * k * 4
    for _ in logit_strips(Identity(), {}, x[:128], tile=64, overlap=16):
        pass  # What JAX keeps from compiling is not the picture's.
    tracemalloc.start()
    try:
        rows = 0
        for top, logits in logit_strips(Identity(), {}, x, tile=64, overlap=16):
            assert top == rows
            rows += len(logits)
        peak = tracemalloc.get_traced_memory()[1] - x.nbytes  # The padded copy.
    finally:
        tracemalloc.stop()
    assert rows == 4096
    assert peak < 8 * strip < x.nbytes / 7


def test_one_compilation_for_all_tiles():
    model = OneHot(num_classes=4)
    program = _program(model, False, None)
    before = program._cache_size()
    image = RNG.integers(0, 4, (100, 90, 1), dtype=np.uint8)
    for _ in range(2):
        predict(model, {}, image, preprocess=AS_IS, tile=16, overlap=5)
    predict(model, {}, image[:77, :60], preprocess=AS_IS, tile=16)
    assert program._cache_size() == before + 1


def test_wrong_input_is_refused():
    model, variables = unet()
    good = np.zeros((70, 70, 1), np.uint8)
    options = {"preprocess": AS_IS}
    for wrong in (good[..., 0], good.astype(np.float32), good[:0]):
        with pytest.raises(ValueError, match="predict takes a picture"):
            predict(model, variables, wrong, **options)
    with pytest.raises(ValueError, match=r"needs a picture \[h, w, 1\]"):
        predict(model, variables, np.repeat(good, 3, -1), **options)
    with pytest.raises(ValueError, match="Tiles of 30 px"):
        predict(model, variables, good, tile=30, **options)
    with pytest.raises(ValueError, match="Tiles of 30 px"):
        check_tiling(model, 1, tile=30, overlap=None)
    with pytest.raises(ValueError, match="overlap of 33"):
        check_tiling(model, 1, tile=64, overlap=33)
    check_tiling(model, 1, tile=None, overlap=99)


@pytest.mark.parametrize("size", [None, (16, 24)])
@pytest.mark.parametrize("flips", [False, True])
def test_several_pictures_are_predicted_as_each(size, flips):
    model = UNet(num_classes=3, width=4, depth=1)
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)
    images = rng.integers(0, 256, (3, 40, 52, 3), np.uint8)
    options = {"preprocess": Preprocess(3, (0.5,) * 3, (0.25,) * 3, size), "flips": flips}
    options |= {"tile": 24, "overlap": 4}
    together = predict(model, variables, images, **options)
    assert together.shape == (3, 40, 52) and len(np.unique(together)) > 1
    for image, ids in zip(images, together, strict=True):
        np.testing.assert_array_equal(ids, predict(model, variables, image, **options))
