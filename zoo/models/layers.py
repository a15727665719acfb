"""Layers that the segmentation models share, and the check of their fields and images."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.ops import conv_transpose, mean_and_var, scale_shift
from zoo.ops.convolution import convolution

# Normal of variance 2 / N, N inputs of one output; He et al., arXiv:1502.01852, Eq. 10.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# What a field of such a name must pass, in any model, and in words.
Fields = Mapping[str, tuple[Callable[[Any], bool], str]]
AT_LEAST_1 = (lambda n: n >= 1, "at least 1")
FIELDS: Fields = {
    "blocks": (lambda ns: ns and min(ns) >= 1, "one number or more, each at least 1"),
    "dropout_rate": (lambda rate: 0 <= rate < 1, "in [0, 1)"),
    "dtype": (lambda name: name in ("float32", "bfloat16"), "one of float32, bfloat16"),
    "norm": (lambda name: name in (None, "batch"), "one of None, batch"),
    "num_classes": (lambda n: n >= 2, "at least 2"),
    "widths": (lambda ns: min(ns, default=1) >= 1, "numbers of at least 1"),
    **dict.fromkeys(("depth", "features", "growth_rate", "hidden", "width"), AT_LEAST_1),
}


def check(model: nn.Module, image: jax.Array, fields: Fields = MappingProxyType({})) -> None:
    """ValueError: an impossible field (`fields`, then `FIELDS`), or image rank, type or size."""
    name = type(model).__name__
    for field, (good, wanted) in {**FIELDS, **fields}.items():
        if hasattr(model, field) and not good(getattr(model, field)):
            raise ValueError(f"{name}.{field} must be {wanted}; got {getattr(model, field)!r}.")
    if image.ndim != 4 or not jnp.issubdtype(image.dtype, jnp.floating):
        takes, got = "a batch of float images [b, h, w, c]", f"{image.dtype} {image.shape}"
        hint = "Add a batch axis, or normalise as in training."
        raise ValueError(f"{name} takes {takes}; got {got}. {hint}")
    if 0 in image.shape:
        raise ValueError(f"{name} takes images of at least one pixel; got {image.shape}.")


def running_averages(module: nn.Module, channels: int) -> list[nn.Variable]:
    """The variables "mean" and "var" [channels] of a layer's `batch_stats`, float32."""
    starts = (("mean", 0.0), ("var", 1.0))
    stats = functools.partial(module.variable, "batch_stats")
    return [stats(name, jnp.full, (channels,), start, jnp.float32) for name, start in starts]


def pad_up(x: jax.Array, stride: int) -> jax.Array:
    """[b, h, w, c] with zeros at the bottom and the right, so that `stride` divides both sides."""
    # Not -h % stride: of a free size (`jax.export`) this form alone is known to be a multiple.
    more = [(0, -(-side // stride) * stride - side) for side in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *more, (0, 0)))


class Conv(nn.Conv):
    """Flax's own, its names and shapes too, with a gradient that is fast on large maps on CPU."""

    conv_general_dilated: Callable | None = convolution

    def __call__(self, x: jax.Array) -> jax.Array:
        """As Flax's; ValueError where the kernel was trained on another number of channels."""
        kernel, c = self.get_variable("params", "kernel"), x.shape[-1]
        if kernel is not None and kernel.shape[-2] * self.feature_group_count != c:
            takes = f"{'/'.join(self.path)} takes {kernel.shape[-2]} channels"
            raise ValueError(f"{takes}; got {c} ({x.shape}). Give pictures as in training.")
        return super().__call__(x)


class BatchNorm(nn.Module):
    """As PyTorch's, epsilon 1e-5 and averages that move by a tenth: Ioffe & Szegedy, ICML 2015.

    Variables are Flax's, whose 0.99 brings the averages too late for runs of a thousand steps; so
    is the variance averaged, without PyTorch's n / (n - 1). It is taken about the mean, and the
    sums are fast on CPU (`zoo.ops.normalize`).
    """

    train: bool  # Normalises by the batch, and moves the averages.
    dtype: str = "float32"  # Of the outcome; parameters, statistics and the way there are float32.
    axis_name: str | None = None  # Statistics are shared over this axis.

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h, w, c]."""
        averages, c = running_averages(self, x.shape[-1]), x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, c, jnp.float32)
        shift = self.param("bias", nn.initializers.zeros, c, jnp.float32)
        x, (mean, var) = x.astype(jnp.float32), (v.value for v in averages)
        if self.train:
            mean, var = mean_and_var(x, None if self.is_initializing() else self.axis_name)
            for average, new in zip(averages, (mean, var), strict=True):
                if not self.is_initializing():
                    average.value += 0.1 * (new - average.value)
        scale *= jax.lax.rsqrt(var + 1e-5)
        return scale_shift(x, scale, shift - mean * scale).astype(self.dtype)


class ConvBlock(nn.Module):
    """3x3 convolutions, each followed by batch norm (if any; it makes the bias redundant), ReLU."""

    features: tuple[int, ...]  # Of each convolution.
    padding: str = "SAME"
    norm: str | None = None  # Or "batch".
    dtype: str = "float32"  # Of the computation; parameters and statistics are float32.
    axis_name: str | None = None  # Batch-norm statistics are shared over this axis.

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] -> [b, h', w', features[-1]]; with "VALID" a convolution takes 2 px."""
        dtype = jnp.dtype(self.dtype)
        conv = {"use_bias": self.norm is None, "dtype": dtype, "kernel_init": he_normal}
        for features in self.features:
            x = Conv(features, (3, 3), padding=self.padding, **conv)(x)
            if self.norm == "batch":
                x = BatchNorm(train, self.dtype, self.axis_name)(x)
            x = nn.relu(x)
        return x


class ConvTranspose(nn.Module):
    """Learned up-sampling, see `zoo.ops.conv_transpose`; by default U-Net's up-convolution.

    The initial variance is 2 over the inputs that an output sees, c * kh * kw / (stride * stride).
    """

    features: int
    kernel_size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: str = "SAME"
    kernel_init: Callable | None = None  # Of [kh, kw, features, c]; None is as above.
    use_bias: bool = True
    dtype: str = "float32"  # Of the computation; parameters are float32.

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h', w', features], h' = h * stride with padding "SAME"."""
        c, (kh, kw), (sh, sw) = x.shape[-1], self.kernel_size, self.strides
        init = self.kernel_init or nn.initializers.normal((2 * sh * sw / (c * kh * kw)) ** 0.5)
        kernel = self.param("kernel", init, (kh, kw, self.features, c), jnp.float32)
        x = conv_transpose(x.astype(self.dtype), kernel, self.strides, self.padding)
        if not self.use_bias:
            return x
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return x + bias.astype(self.dtype)


def bilinear_kernel(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """An initializer [kh, kw, out, in]: each channel's own interpolation; the key is unused.

    It is, away from borders, where the kernel is of twice the stride: Shelhamer et al., "Fully
    Convolutional Networks for Semantic Segmentation", TPAMI 2017, Sec. 4.3.
    """
    halves = ((k, (k + 1) // 2 if k % 2 else k / 2) for k in shape[:2])
    rows, columns = (1 - jnp.abs(jnp.arange(k) - (k - 1) / 2) / half for k, half in halves)
    tents = rows[:, None, None, None] * columns[:, None, None] * jnp.eye(*shape[2:])
    return tents.astype(dtype)
