import dataclasses

import cv2
import numpy as np
import pytest
import scipy.ndimage

from zoo.data.augment import Augment, augment, displacement

VOID, FILL = 255, (255.0, 255.0, 255.0)
GEOMETRY = {
    "flip": Augment(flip=True),
    "flip_vertical": Augment(flip_vertical=True),
    "turns": Augment(turns=True),
    "scale": Augment(scale=(0.5, 2.0)),
    "elastic": Augment(elastic_sigma=4.0),
    "affine": Augment(rotate=20.0, shear=0.2, shift=0.1),
    "all": Augment(flip=True, flip_vertical=True, turns=True, scale=(0.5, 2.0), elastic_sigma=4.0),
}


def apply(image, label, config, *, seed=0, crop=None, fill=FILL):
    rng = np.random.default_rng(seed)
    return augment(image, label, rng, config, crop=crop, ignore_label=VOID, fill=fill)


def picture(height=60, width=80, *, dtype=np.uint8):
    """Patches of 11 x 9 pixels; every channel of a pixel is its label, so that they can be told."""
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 11, (20, 20)), np.ones((11, 9)))[:height, :width]
    label = label.astype(np.uint8)
    return np.repeat(label[..., None], 3, 2).astype(dtype), label


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("crop", [None, (40, 50), (90, 70)])
@pytest.mark.parametrize("name", GEOMETRY)
def test_image_and_label_stay_aligned(name, crop, dtype):
    image, label = picture(dtype=dtype)
    for seed in range(20):
        got, ids = apply(image, label, GEOMETRY[name], seed=seed, crop=crop)
        assert got.shape == (*(crop or label.shape), 3) and ids.shape == got.shape[:2]
        assert got.dtype == dtype and ids.dtype == np.uint8
        if name in ("scale", "affine", "elastic", "all"):
            # The picture is interpolated: pixels mix labels where two touch, and there alone.
            around = cv2.copyMakeBorder(ids, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=99)
            around = np.lib.stride_tricks.sliding_window_view(around, (5, 5))
            inside = (around == ids[..., None, None]).all((2, 3))
            assert inside.sum() > 100
            np.testing.assert_allclose(got[inside][:, 0], ids[inside], atol=1e-4)
        else:
            assert (got == ids[..., None]).all()
        if crop != (90, 70):
            assert (ids != VOID).mean() > 0.15


@pytest.mark.parametrize("name", GEOMETRY)
def test_an_interpolated_label_is_one_of_the_picture(name):
    image, label = picture()
    label = np.where(label > 5, 10, 0).astype(np.uint8)
    for seed in range(10):
        ids = apply(image, label, GEOMETRY[name], seed=seed)[1]
        assert set(np.unique(ids)) <= {0, 10, VOID}


def test_defaults_return_the_same_bytes():
    image, label = picture()
    got, ids = apply(image, label, Augment())
    assert got.tobytes() == image.tobytes() and ids.tobytes() == label.tobytes()


@pytest.mark.parametrize(
    ("config", "operations"),
    [
        (Augment(flip=True), [lambda x: x, lambda x: np.flip(x, 1)]),
        (Augment(flip_vertical=True), [lambda x: x, lambda x: np.flip(x, 0)]),
        (Augment(turns=True), [lambda x, k=k: np.rot90(x, k) for k in range(4)]),
    ],
)
def test_flips_and_turns_equal_numpy(config, operations):
    rng = np.random.default_rng(1)
    image, label = rng.integers(0, 256, (9, 9, 3), np.uint8), rng.integers(0, 9, (9, 9), np.uint8)
    seen = []
    for seed in range(200):
        got, ids = apply(image, label, config, seed=seed)
        which = [np.array_equal(got, operation(image)) for operation in operations].index(True)
        np.testing.assert_array_equal(ids, operations[which](label))
        seen.append(which)
    # Each as often as any other: 3 standard deviations of a count among 200.
    share = 1 / len(operations)
    counts = np.bincount(seen, minlength=len(operations))
    assert np.abs(counts - 200 * share).max() < 3 * np.sqrt(200 * share * (1 - share))


def test_smaller_crop_reaches_every_place():
    image = np.arange(20, dtype=np.uint8).reshape(4, 5, 1)
    corners = set()
    for seed in range(200):
        got, ids = apply(image, image[..., 0], Augment(), seed=seed, crop=(2, 3), fill=(0.0,))
        y, x = divmod(int(ids[0, 0]), 5)
        np.testing.assert_array_equal(got, image[y : y + 2, x : x + 3])
        np.testing.assert_array_equal(ids, image[y : y + 2, x : x + 3, 0])
        corners.add((y, x))
    assert corners == {(y, x) for y in range(3) for x in range(3)}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_larger_crop_pads_with_void_and_fill(dtype):
    image = np.arange(1, 13, dtype=dtype).reshape(2, 2, 3)
    label, places = np.array([[1, 2], [3, 4]], np.uint8), set()
    for seed in range(100):
        got, ids = apply(image, label, Augment(), seed=seed, crop=(4, 3), fill=(7.0, 8.0, 9.0))
        rows, columns = np.nonzero(ids != VOID)
        y, x = rows.min(), columns.min()
        np.testing.assert_array_equal(ids[y : y + 2, x : x + 2], label)
        np.testing.assert_array_equal(got[y : y + 2, x : x + 2], image)
        outside = ids == VOID
        assert outside.sum() == 8 and (got[outside] == (7, 8, 9)).all()
        places.add((int(y), int(x)))
    assert places == {(y, x) for y in range(3) for x in range(2)}


def test_scale_zooms_by_its_factor():
    """A ramp of slope 1 has slope 1 / 2 when twice as large, and a disc four times the area."""
    ramp = np.repeat(np.tile(np.arange(80, dtype=np.float32), (60, 1))[..., None], 3, 2)
    y, x = np.mgrid[:60, :80]
    label = ((y - 30) ** 2 + (x - 40) ** 2 < 100).astype(np.uint8)
    got, ids = apply(ramp, label, Augment(scale=(2.0, 2.0)), crop=(120, 160))
    np.testing.assert_allclose(np.diff(got[5, 5:-5, 0]), 0.5, atol=1e-4)
    assert (ids == 1).sum() == pytest.approx(4 * label.sum(), rel=0.01)
    # What fills the whole window leaves no rim of void.
    assert not (ids == VOID).any()


def test_scale_is_log_uniform():
    image = np.repeat(np.tile(np.arange(0, 250, dtype=np.float32), (60, 1))[..., None], 3, 2)
    label, zooms = np.zeros((60, 250), np.uint8), []
    rng, config = np.random.default_rng(0), Augment(scale=(0.5, 2.0))
    for _ in range(300):
        got, ids = augment(image, label, rng, config, crop=(30, 40), ignore_label=VOID, fill=FILL)
        row = got[15][ids[15] == 0]
        zooms.append(1 / np.diff(row[3:-3, 0]).mean())
    logs = np.log2(zooms)
    assert -1.02 < logs.min() < -0.95 and 0.95 < logs.max() < 1.02
    # The mean and deviation of a uniform variable on -1..1, to 3 standard errors.
    assert abs(logs.mean()) < 3 * np.sqrt(1 / 3 / 300)
    assert logs.std() == pytest.approx(np.sqrt(1 / 3), rel=0.1)


def test_displacement_is_bicubic_as_in_opencv():
    nodes = np.random.default_rng(0).normal(size=(2, 3, 3))
    for height, width in ((48, 65), (512, 512), (5, 3)):
        rows, columns = np.arange(height) + 0.0, np.arange(width) + 0.0
        down, across = displacement(nodes, rows, columns, (height, width))
        for component, grid in zip(down @ across, nodes, strict=True):
            want = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
            np.testing.assert_allclose(component, want, atol=1e-5)  # Its weights are float32.


def test_elastic_displaces_by_sigma():
    """Coordinates as colours, so that a pixel tells where it came from."""
    y, x = np.mgrid[:150, :150].astype(np.float32)
    image, label = np.stack([y, x], -1), np.zeros((150, 150), np.uint8)
    moved = []
    for seed in range(300):
        got, ids = apply(
            image, label, Augment(elastic_sigma=10.0), seed=seed, crop=None, fill=(0.0, 0.0)
        )
        # The node at the centre of the picture; a pixel beside it for an even side.
        assert ids[75, 75] == 0
        moved.append(got[75, 75] - (75, 75))
    moved = np.array(moved)
    # 600 normal deviates: the standard error of their deviation is sigma / sqrt(2 * 600).
    assert moved.std() == pytest.approx(10.0, abs=3 * 10 / np.sqrt(1200))
    assert abs(moved.mean()) < 3 * 10 / np.sqrt(600)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_photometric_matches_a_loop(channels, dtype):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (6, 7, channels)).astype(dtype)
    label = rng.integers(0, 9, (6, 7), np.uint8)
    fill = (90.0, 100.0, 110.0)[:channels]
    config = Augment(brightness=0.2, contrast=0.4, saturation=0.5, gain=0.1)
    got, ids = apply(image, label, config, fill=fill)

    draw = np.random.default_rng(0)
    saturation, contrast = 1 + draw.uniform(-1, 1, 2) * (0.5, 0.4)
    gain = 1 + 0.1 * draw.uniform(-1, 1, channels)
    added = 255 * 0.2 * draw.uniform(-1, 1)
    want = np.zeros(image.shape)
    for y, x in np.ndindex(6, 7):
        pixel = image[y, x].astype(np.float64)
        if channels == 3:
            grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
            pixel = grey + saturation * (pixel - grey)
        pixel = (gain * pixel - fill) * contrast + fill + added
        want[y, x] = pixel.clip(0, 255)
    np.testing.assert_allclose(got, want, atol=1 if dtype == np.uint8 else 1e-3)
    assert got.dtype == dtype
    np.testing.assert_array_equal(ids, label)


@pytest.mark.parametrize("field", ["brightness", "contrast", "saturation", "gain"])
def test_each_photometric_change_does_something(field):
    image = np.random.default_rng(0).integers(60, 200, (8, 8, 3), np.uint8)
    label = np.zeros((8, 8), np.uint8)
    got = apply(image, label, Augment(**{field: 0.3}), fill=(128.0,) * 3)[0]
    assert np.abs(got.astype(int) - image).max() > 2


def test_padding_keeps_its_colour_under_photometric_changes():
    config = Augment(brightness=0.3, contrast=0.3, saturation=0.3, gain=0.3)
    image, label = picture(10, 10, dtype=np.float32)
    for seed in range(5):
        got, ids = apply(image, label, config, seed=seed, crop=(20, 20), fill=(7.5, 8.0, 9.0))
        assert (got[ids == VOID] == (7.5, 8.0, 9.0)).all()


def test_the_generator_alone_decides():
    image, label = picture()
    config = dataclasses.replace(GEOMETRY["all"], brightness=0.2, contrast=0.2, gain=0.2)
    image.flags.writeable = label.flags.writeable = False
    a, b, c = (apply(image, label, config, seed=seed, crop=(32, 32)) for seed in (5, 5, 6))
    assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
    assert a[0].tobytes() != c[0].tobytes()


def test_refuses_sizes_that_differ():
    with pytest.raises(ValueError, match=r"one size; got \(4, 4, 3\) and \(4, 5\)"):
        apply(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), Augment())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", (0.0, 1.0)),
        ("scale", (2.0, 1.0)),
        ("elastic_sigma", -1.0),
        ("brightness", 1.5),
        ("gain", -0.1),
    ],
)
def test_refuses_impossible_settings(field, value):
    with pytest.raises(ValueError, match=f"data.augment.{field} must"):
        Augment(**{field: value})


def test_rotation_slant_and_shift_are_the_affine_map_they_say():
    """Against scipy's affine transform, with the drawn numbers repeated."""
    rng = np.random.default_rng(3)
    image = scipy.ndimage.gaussian_filter(rng.uniform(0, 255, (30, 40)), 2)[..., None]
    config = Augment(rotate=30, shear=0.2, shift=0.1)
    got, void = augment(
        image.astype(np.float32),
        np.zeros((30, 40), np.uint8),
        np.random.default_rng(0),
        config,
        crop=None,
        ignore_label=255,
        fill=(0.0,),
    )
    draws = np.random.default_rng(0)
    draws.uniform(size=1), draws.normal(size=18)  # The zoom, and the elastic nodes.
    angle, slant, up, left = draws.uniform(-1, 1, 4) * (np.radians(30), 0.2, 3, 4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, 0], [slant, 1]])
    centre = np.array([14.5, 19.5])
    offset = centre - matrix @ (centre + np.array([up, left]))
    want = scipy.ndimage.affine_transform(image[..., 0], matrix, offset, order=1)
    inside = scipy.ndimage.affine_transform(np.ones((30, 40)), matrix, offset, order=1) > 0.99
    assert 0.5 < inside.mean() < 0.95 and np.abs(want - image[..., 0])[inside].max() > 30
    # OpenCV interpolates on a grid of 1/32 pixel.
    assert np.abs(got[..., 0] - want)[inside].max() < 1.5
    assert (void[inside] == 0).all() and (void == 255).any()
