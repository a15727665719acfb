"""Networks that turn a picture into a point, and pairs of pictures into a verdict.

`SiameseEncoder` is the small classic network; `ResidualEncoder` the strong one: He et al.,
"Identity Mappings in Deep Residual Networks", arXiv:1603.05027, with full pre-activation; departing
from it, the first convolution keeps the size, as the pictures are small, and batch norm is as in
`zoo.models.layers`. `SiameseVerifier` joins two branches with one set of parameters: Bromley et
al., "Signature Verification using a Siamese Time Delay Neural Network", NIPS 1993.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.models.layers import AT_LEAST_1, FIELDS, BatchNorm, Conv, check, he_normal, pad_up
from zoo.ops import max_pool_2x2, oriented_gradients, safe_sqrt
from zoo.ops.distance import unit_rows

_CROSS = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # Where a picture and its shifts begin.


class SiameseEncoder(nn.Module):
    """Twice a 2x2 convolution, ReLU, pooling and dropout; then the mean over space, and dense."""

    features: int = 48  # Of the embedding.
    width: int = 64  # Channels of both convolutions.
    dropout_rate: float = 0.3
    normalize: bool = False  # To length 1; a vector of zeros stays one.
    dtype: str = "float32"  # Of the computation; parameters are float32.

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] float, else ValueError -> [b, features] float32; any size from 1x1."""
        check(self, x)
        for _ in range(2):
            x = nn.relu(Conv(self.width, (2, 2), dtype=jnp.dtype(self.dtype))(x))
            # Zeros pad as -inf does behind a ReLU.
            x = max_pool_2x2(pad_up(x, 2))
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = nn.Dense(self.features)(x.astype(jnp.float32).mean((1, 2)))
        return unit_rows(x) if self.normalize else x


class ResidualEncoder(nn.Module):
    """Stages of pre-activation residual blocks, each at half the size and twice the channels."""

    features: int = 128  # Of the embedding.
    width: int = 32  # Channels of the first stage.
    depth: int = 3  # Stages.
    blocks: int = 1  # Residual blocks a stage.
    dropout_rate: float = 0.0  # Before the last layer.
    normalize: bool = False  # To length 1; a vector of zeros stays one.
    dtype: str = "float32"  # Of the computation; parameters and statistics are float32.
    axis_name: str | None = None  # Batch-norm statistics are shared over this axis.

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] float, else ValueError -> [b, features] float32; any size from 1x1."""
        check(self, x, {"blocks": AT_LEAST_1})
        x = _conv(self.width, 3, 1, self.dtype)(x)
        for stage in range(self.depth):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                width = self.width * 2**stage
                x = ResidualBlock(width, stride, self.dtype, self.axis_name)(x, train=train)
        x = BatchNorm(train, self.dtype, self.axis_name)(x)
        x = nn.relu(x).astype(jnp.float32).mean((1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = nn.Dense(self.features)(x)
        return unit_rows(x) if self.normalize else x


class AlignedEncoder(nn.Module):
    """For pictures in which things have their places, as faces do: the last layer is told where.

    Stages of a 3x3 convolution, ReLU and pooling, then one dense layer of all that is left, and
    batch norm without scale or shift. Compare the "BNNeck" of Luo et al., "Bag of Tricks and a
    Strong Baseline for Deep Person Re-identification", CVPR Workshops 2019, which has the scale
    and gives a triplet loss what comes before it. Pictures must be of one size.
    With `orientations` the stages see `oriented_gradients`; with no `widths` the dense layer does.
    """

    features: int = 128  # Of the embedding.
    widths: tuple[int, ...] = (16, 32)  # Channels of each stage.
    orientations: int = 0  # Bins of the histograms seen in place of the pixels; 0: pixels.
    cell: int = 8  # Pixels of a side of a histogram's cell.
    shrunk: tuple[int, ...] = (1,)  # Divisors of cell and sides: scales seen side by side.
    dropout_rate: float = 0.3  # Before the last layer.
    symmetric: bool = False  # Averages a picture and its mirror image, before the batch norm;
    shifted: bool = False  # and each with its shifts by a pixel up, down, left and right.
    normalize: bool = True  # To length 1; a vector of zeros stays one.
    dtype: str = "float32"  # Of the computation; parameters and statistics are float32.
    axis_name: str | None = None  # Batch-norm statistics are shared over this axis.

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] float -> [b, features] float32; ValueError where `shrunk` does not fit."""
        check(self, x, {"shrunk": FIELDS["blocks"]})
        views = [x, x[:, :, ::-1]] if self.symmetric else [x]
        if self.shifted:
            (h, w), around = x.shape[1:3], ((0, 0), (1, 1), (1, 1), (0, 0))
            padded = [jnp.pad(view, around, "edge") for view in views]
            views = [view[:, i : i + h, j : j + w] for view in padded for i, j in _CROSS]
        x = jnp.concatenate(views)
        if self.orientations:
            if any(side % k for k in self.shrunk for side in (self.cell, *x.shape[1:3])):
                got = f"cell={self.cell}, shrunk={self.shrunk} and pictures {x.shape[1:3]}"
                raise ValueError(f"AlignedEncoder.shrunk must divide cell and sides; got {got}.")
            scales = [(nn.avg_pool(x, (k, k), (k, k)), self.cell // k) for k in self.shrunk]
            seen = [oriented_gradients(y, bins=self.orientations, cell=c) for y, c in scales]
            x = jnp.concatenate(seen, axis=-1)
        for width in self.widths:
            x = nn.relu(Conv(width, (3, 3), dtype=jnp.dtype(self.dtype))(x))
            x = max_pool_2x2(pad_up(x, 2))
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = nn.Dense(self.features, use_bias=False)(x)
        x = sum(jnp.split(x, len(views))) / len(views)
        options = dict.fromkeys(("use_scale", "use_bias", "use_fast_variance"), False)
        x = nn.BatchNorm(not train, momentum=0.9, axis_name=self.axis_name, **options)(x)
        return unit_rows(x) if self.normalize else x


class ResidualBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, added to what came in."""

    features: int
    stride: int = 1
    dtype: str = "float32"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] -> [b, ceil(h / stride), ceil(w / stride), features]."""
        y = nn.relu(BatchNorm(train, self.dtype, self.axis_name)(x))
        # A shortcut that changes the shape starts after the first activation, as in the paper's
        # code; any other is the identity.
        if self.stride > 1 or x.shape[-1] != self.features:
            x = _conv(self.features, 1, self.stride, self.dtype)(y)
        y = _conv(self.features, 3, self.stride, self.dtype)(y)
        y = nn.relu(BatchNorm(train, self.dtype, self.axis_name)(y))
        return x + _conv(self.features, 3, 1, self.dtype)(y)


class SiameseVerifier(nn.Module):
    """Two pictures through one encoder -> the logit that they show the same.

    `compare="euclidean"` weighs the distance of the two embeddings by one dense unit;
    "absolute" weighs each |f1 - f2| by its own (Koch, Zemel & Salakhutdinov, "Siamese Neural
    Networks for One-shot Image Recognition", 2015, Sec. 3.1, there of sigmoid features).
    """

    encoder: nn.Module  # Embeds a picture: `SiameseEncoder` or `ResidualEncoder`.
    compare: Literal["euclidean", "absolute"] = "euclidean"

    def setup(self):
        if self.compare not in (known := ("euclidean", "absolute")):
            raise ValueError(f"SiameseVerifier.compare must be in {known}; got {self.compare!r}.")
        # From the start far means different: a positive weight would be learnt from, inside out.
        init = {"kernel_init": lambda _, shape, dtype: jnp.full(shape, -(shape[0] ** -0.5), dtype)}
        self.head = nn.Dense(1, precision=jax.lax.Precision.HIGHEST, **init)

    def __call__(self, x: jax.Array, y: jax.Array, *, train: bool = False) -> jax.Array:
        """Pictures [b, h, w, c], both of one shape -> logits [b] float32; over 0 is "same"."""
        if x.shape != y.shape:
            raise ValueError(f"SiameseVerifier takes two of one shape; got {x.shape}, {y.shape}.")
        # One call: batch norm sees both branches, and their gradients add up in one tree.
        return self.verdict(*jnp.split(self.encoder(jnp.concatenate([x, y]), train=train), 2))

    def embed(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] -> [b, d] float32."""
        return self.encoder(x, train=train)

    def verdict(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Embeddings [..., d] -> logits [...] float32."""
        if self.compare == "absolute":
            return self.head(jnp.abs(x - y))[..., 0]
        return self.head(safe_sqrt(jnp.square(x - y).sum(-1, keepdims=True)))[..., 0]


def _conv(features: int, side: int, stride: int, dtype: str) -> Conv:
    shape, strides, dtype = (side, side), (stride, stride), jnp.dtype(dtype)
    return Conv(features, shape, strides, use_bias=False, dtype=dtype, kernel_init=he_normal)
