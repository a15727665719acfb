"""`AlignedEncoder`, by hand and beside PyTorch; what all encoders share is in test_siamese.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import initialised, picture
from zoo.models import AlignedEncoder
from zoo.ops.orientations import oriented_gradients


@pytest.mark.parametrize("train", [False, True])
def test_the_aligned_encoder_is_the_one_of_torch(train):
    """Its stages, the order in which what is left is laid out, and batch norm of rows near one."""
    torch = pytest.importorskip("torch")
    x, encoder = picture(6, 9, 7, 3), AlignedEncoder(5, (4, 6), dropout_rate=0.0, normalize=False)
    variables = initialised(encoder, x)
    params, stats = variables["params"], variables["batch_stats"]["BatchNorm_0"]
    y = torch.tensor(x).double().permute(0, 3, 1, 2)
    for i in range(2):
        conv = {k: torch.tensor(np.asarray(v)).double() for k, v in params[f"Conv_{i}"].items()}
        kernel = conv["kernel"].permute(3, 2, 0, 1)
        y = torch.relu(torch.nn.functional.conv2d(y, kernel, conv["bias"], padding=1))
        y = torch.nn.functional.max_pool2d(y, 2, ceil_mode=True)
    y = (
        y.permute(0, 2, 3, 1).reshape(6, -1)
        @ torch.tensor(np.asarray(params["Dense_0"]["kernel"])).double()
    )
    running = [torch.tensor(np.asarray(stats[name])).double() for name in ("mean", "var")]
    want = torch.nn.functional.batch_norm(y, *running, training=train)
    got = encoder.apply(variables, x, train=train, mutable=["batch_stats"])[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_embeddings_that_crowd_together_are_normalised_as_others():
    """As they do where a training collapses: the mean square less the squared mean has no digit."""
    encoder = AlignedEncoder(1, (), dropout_rate=0.0, normalize=False)
    x = (100 + picture(64, 1, 1, 1) / 100).astype(np.float32)
    variables = jax.tree.map(jnp.ones_like, encoder.init(jax.random.key(0), x))
    got = encoder.apply(variables, x, train=True, mutable=["batch_stats"])[0]
    wide = np.float64(x.ravel())
    np.testing.assert_allclose(
        got[:, 0], (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5), atol=2e-2
    )


@pytest.mark.slow
def test_the_aligned_encoder_sees_histograms_in_place_of_pixels():
    """Without stages: one dense layer of the mean of a picture's and its mirror image's."""
    x = picture(3, 9, 8, 1)
    encoder = AlignedEncoder(
        features=5, widths=(), orientations=4, cell=3, symmetric=True, normalize=False
    )
    variables = initialised(encoder, x)
    kernel, stats = variables["params"]["Dense_0"]["kernel"], variables["batch_stats"]
    seen = [oriented_gradients(y, bins=4, cell=3).reshape(3, -1) for y in (x, x[:, :, ::-1])]
    mean, var = (np.asarray(stats["BatchNorm_0"][name], np.float64) for name in ("mean", "var"))
    want = ((seen[0] + seen[1]) / 2 @ np.asarray(kernel, np.float64) - mean) / np.sqrt(var + 1e-5)
    got = jax.jit(encoder.apply)(variables, x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.apply(variables, x[:, :, ::-1]), got, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_histograms_of_two_scales_stand_side_by_side():
    """Of the picture, and of the means of its 2x2 blocks, whose cells have half the pixels."""
    x = picture(3, 8, 12, 1)
    encoder = AlignedEncoder(
        features=5, widths=(), orientations=4, cell=4, shrunk=(1, 2), normalize=False
    )
    variables = initialised(encoder, x)
    kernel, stats = variables["params"]["Dense_0"]["kernel"], variables["batch_stats"]
    half = x.reshape(3, 4, 2, 6, 2, 1).mean((2, 4))
    seen = [oriented_gradients(y, bins=4, cell=c) for y, c in ((x, 4), (half, 2))]
    seen = np.concatenate(seen, -1).reshape(3, -1).astype(np.float64)
    mean, var = (np.asarray(stats["BatchNorm_0"][name], np.float64) for name in ("mean", "var"))
    want = (seen @ np.asarray(kernel, np.float64) - mean) / np.sqrt(var + 1e-5)
    got = jax.jit(encoder.apply)(variables, x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("train", [False, True])
def test_views_are_averaged_before_batch_norm(train):
    """A picture, its mirror image, and each moved by a pixel, where the border goes on."""
    x = picture(4, 6, 5, 1)
    options = {"features": 5, "widths": (3,), "dropout_rate": 0.0, "normalize": False}
    encoder, plain = (AlignedEncoder(**options, **more) for more in (
        {"symmetric": True, "shifted": True}, {}))  # fmt: skip
    variables = initialised(encoder, x)
    views = []
    for view in (x, x[:, :, ::-1]):
        for dy, dx in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            rows, columns = np.clip(np.arange(6) + dy, 0, 5), np.clip(np.arange(5) + dx, 0, 4)
            views.append(view[:, rows][:, :, columns])
    stats = {"BatchNorm_0": {"mean": jnp.zeros(5), "var": jnp.ones(5) - 1e-5}}
    as_is = {"params": variables["params"], "batch_stats": stats}
    want = np.mean([plain.apply(as_is, view) for view in views], 0, np.float64)
    stats = variables["batch_stats"]["BatchNorm_0"]
    mean, var = (want.mean(0), want.var(0)) if train else (stats["mean"], stats["var"])
    got = encoder.apply(variables, x, train=train, mutable=["batch_stats"])[0]
    np.testing.assert_allclose(got, (want - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-4)


def test_scales_that_do_not_divide_are_refused():
    encoder = AlignedEncoder(orientations=4, cell=4, shrunk=(1, 2))
    with pytest.raises(ValueError, match=r"must divide cell and sides; got cell=4.*\(9, 8\)"):
        jax.eval_shape(encoder.init, jax.random.key(0), picture(1, 9, 8, 1))
