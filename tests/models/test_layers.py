import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from support import equal
from zoo.models import (
    AlignedEncoder,
    FCDenseNet56,
    FCN8s,
    MaxUnpoolNet,
    PatchClassifier,
    ResidualEncoder,
    SiameseEncoder,
    UNet,
)
from zoo.models.layers import ConvBlock, ConvTranspose, bilinear_kernel
from zoo.ops import upsample_bilinear


@pytest.mark.parametrize(
    "model",
    [
        UNet(num_classes=2, width=2, depth=1),
        MaxUnpoolNet(num_classes=2, width=2),
        PatchClassifier(num_classes=2, width=2),
        FCN8s(num_classes=2, width=2),
        FCDenseNet56(num_classes=2),
        SiameseEncoder(width=2),
        ResidualEncoder(width=2),
        AlignedEncoder(widths=(2,)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_pictures_of_other_channels_are_refused(model):
    size = (1, 64, 64)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((*size, 3)))
    with pytest.raises(ValueError, match=r"takes 3 channels; got 1 .*as in training"):
        jax.eval_shape(model.apply, shapes, jnp.zeros((*size, 1)))
    jax.eval_shape(model.apply, shapes, jnp.zeros((*size, 3)))


@pytest.mark.parametrize(("channels", "features"), [(6, 3), (3, 5), (1, 1)])
def test_up_convolution_is_conv_transpose(channels, features):
    ours = ConvTranspose(features)
    theirs = nn.ConvTranspose(features, (2, 2), (2, 2), transpose_kernel=True)
    x = jax.random.normal(jax.random.key(0), (2, 5, 7, channels))
    weight = jax.random.normal(jax.random.key(1), (2, 10, 14, features))
    shapes = jax.eval_shape(theirs.init, jax.random.key(2), x)
    assert jax.eval_shape(ours.init, jax.random.key(2), x) == shapes
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda v: rng.normal(size=v.shape).astype(v.dtype), shapes)

    def loss(module, variables, x):
        out = module.apply(variables, x)
        return (out * weight).sum(), out

    def run(module):
        gradient = jax.value_and_grad(lambda v, x: loss(module, v, x), argnums=(0, 1), has_aux=True)
        return jax.jit(gradient)(variables, x)

    (_, got), got_grad = run(ours)
    (_, want), want_grad = run(theirs)
    equal(got, want)
    jax.tree.map(equal, got_grad, want_grad)


def test_initial_variance_is_two_over_the_inputs_of_an_output():
    x = jnp.zeros((1, 8, 8, 100))
    params = ConvTranspose(100).init(jax.random.key(0), x)["params"]
    np.testing.assert_allclose(params["kernel"].std(), np.sqrt(2 / 100), rtol=0.03)
    params = ConvBlock((100, 100)).init(jax.random.key(0), x)["params"]
    np.testing.assert_allclose(params["Conv_0"]["kernel"].std(), np.sqrt(2 / 900), rtol=0.03)


def test_a_norm_replaces_the_bias():
    x = jnp.zeros((1, 8, 8, 2))
    plain = ConvBlock((3, 3)).init(jax.random.key(0), x)
    assert set(plain) == {"params"} and set(plain["params"]["Conv_0"]) == {"kernel", "bias"}
    normed = ConvBlock((3, 3), norm="batch").init(jax.random.key(0), x)
    assert set(normed["params"]["Conv_1"]) == {"kernel"}
    assert set(normed["batch_stats"]) == {"BatchNorm_0", "BatchNorm_1"}


@pytest.mark.parametrize(("padding", "side"), [("SAME", 9), ("VALID", 5)])
def test_block_size(padding, side):
    out, _ = ConvBlock((3, 3), padding).init_with_output(jax.random.key(0), jnp.zeros((2, 9, 9, 2)))
    assert out.shape == (2, side, side, 3)
    assert (out >= 0).all()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bilinear_starts_as_the_interpolation(factor):
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 3)).astype(np.float32)
    layer = ConvTranspose(
        3, (2 * factor,) * 2, (factor,) * 2, kernel_init=bilinear_kernel, use_bias=False
    )
    got, variables = layer.init_with_output(jax.random.key(0), x)
    assert set(variables["params"]) == {"kernel"}
    inside = (slice(None), slice(factor, -factor), slice(factor, -factor))
    np.testing.assert_allclose(got[inside], upsample_bilinear(x, factor)[inside], atol=1e-5)
