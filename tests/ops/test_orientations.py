import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.orientations import oriented_gradients


def by_loops(image, bins, cell):
    """Every pixel's gradient dealt to two bins and up to four cells, one by one."""
    h, w, c = image.shape
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)), "edge")
    found = np.zeros((-(-h // cell), -(-w // cell), c, bins))
    for i, j, channel in np.ndindex(h, w, c):
        dy = padded[i + 2, j + 1, channel] - padded[i, j + 1, channel]
        dx = padded[i + 1, j + 2, channel] - padded[i + 1, j, channel]
        place = np.degrees(np.arctan2(dy, dx)) % 180 / 180 * bins
        low = int(place)
        for p, q in np.ndindex(found.shape[:2]):
            near = [max(0, 1 - abs((at + 0.5) / cell - (of + 0.5))) for at, of in ((i, p), (j, q))]
            share = np.hypot(dy, dx) * near[0] * near[1]
            found[p, q, channel, low % bins] += share * (low + 1 - place)
            found[p, q, channel, (low + 1) % bins] += share * (place - low)
    return np.sqrt(found / found.sum()).reshape(*found.shape[:2], -1)


@pytest.mark.parametrize("bins, cell, shape", [(8, 4, (8, 12, 1)), (9, 3, (7, 5, 3))])
def test_histograms_match_loops(variant, bins, cell, shape):
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    got = variant(lambda x: oriented_gradients(x, bins=bins, cell=cell))(images)
    np.testing.assert_allclose(got, [by_loops(x, bins, cell) for x in images], atol=1e-5)


def test_a_ramp_lies_in_the_bin_of_its_direction():
    """Brighter to the right is 0 degrees, downwards 90, and back again is the same."""
    ramp = np.broadcast_to(np.arange(8.0), (8, 8))
    images = np.stack([ramp, ramp[:, ::-1], ramp.T, ramp.T[::-1]])[..., None]
    found = np.square(oriented_gradients(images, bins=4, cell=8))[:, 0, 0]
    np.testing.assert_allclose(found, np.eye(4)[[0, 0, 2, 2]], atol=1e-6)


def test_light_changes_nothing():
    x = np.random.default_rng(0).uniform(size=(2, 12, 9, 1)).astype(np.float32)
    want = oriented_gradients(x)
    np.testing.assert_allclose(oriented_gradients(0.5 * x + 3), want, atol=1e-4)


@pytest.mark.slow
def test_a_flat_picture_has_zeros_and_a_finite_gradient(variant):
    x = np.full((2, 6, 6, 1), 0.4, np.float32)
    x[1, 2, 3] = 1
    value, gradient = variant(jax.value_and_grad(lambda x: jnp.sum(oriented_gradients(x, cell=3))))(
        x
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_array_equal(oriented_gradients(x)[0], 0)
    np.testing.assert_array_equal(oriented_gradients(x[:, :1, :1]), np.zeros((2, 1, 1, 8)))


@pytest.mark.parametrize("options", [{"bins": 1}, {"cell": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=r"bins >= 2 and cell >= 1; got \(1, "):
        oriented_gradients(np.zeros((1, 4, 4, 1), np.float32), **options)
