"""Layers that the segmentation models share."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.ops.upsample import depth_to_space

# Normal of variance 2 / N, N inputs of one output; He et al., arXiv:1502.01852, Eq. 10.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")

# The same for a kernel [h, w, out, in] each of whose taps makes a pixel of its own.
_he_normal_up = nn.initializers.variance_scaling(
    2.0, "fan_in", "normal", in_axis=-1, out_axis=-2, batch_axis=(0, 1)
)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each followed by batch norm (if any) and ReLU.

    Batch norm: momentum 0.9 and epsilon 1e-5, PyTorch's defaults, as thousand-step runs need the
    running averages sooner than Flax's 0.99 brings them. It makes the bias redundant: left out.
    """

    features: int
    padding: str = "SAME"
    norm: str | None = None  # Or "batch".
    dtype: str = "float32"  # Of the computation; parameters and statistics are float32.
    axis_name: str | None = None  # Batch-norm statistics are shared over this axis.

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] -> [b, h', w', features]; h' = h, or h - 4 with padding "VALID"."""
        dtype = jnp.dtype(self.dtype)
        conv = {"use_bias": self.norm is None, "dtype": dtype, "kernel_init": he_normal}
        norm = {"momentum": 0.9, "epsilon": 1e-5, "dtype": dtype, "axis_name": self.axis_name}
        for _ in range(2):
            x = nn.Conv(self.features, (3, 3), padding=self.padding, **conv)(x)
            if self.norm == "batch":
                x = nn.BatchNorm(not train, **norm)(x)
            x = nn.relu(x)
        return x


class UpConvolution(nn.Module):
    """2x2 transposed convolution of stride 2: a dense layer, then depth to space.

    Has the parameters and the values of `nn.ConvTranspose(features, (2, 2), (2, 2),
    transpose_kernel=True)`, whose zeros between the pixels cost XLA most of the time on CPU.
    The initial variance is 2 / c: with stride 2 a pixel sees one input pixel, not four.
    """

    features: int
    dtype: str = "float32"  # Of the computation; parameters are float32.

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, 2h, 2w, features]."""
        c = x.shape[-1]
        kernel = self.param("kernel", _he_normal_up, (2, 2, self.features, c), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        dense = kernel.transpose(3, 0, 1, 2).reshape(c, 4 * self.features)
        x = x.astype(self.dtype) @ dense.astype(self.dtype)
        return depth_to_space(x, 2) + bias.astype(self.dtype)
