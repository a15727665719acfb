"""An encoder and its mirror image, which remembers where the maxima stood: SegNet.

Badrinarayanan, Kendall & Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation", TPAMI 2017, arXiv:1511.00561; un-pooling for segmentation is of Noh, Hong &
Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, arXiv:1505.04366. What
the paper leaves open (ReLU in the decoder, none of it nor batch norm behind the last convolution)
is as in the authors' Caffe release. Departures:

- The encoder starts from random weights, not from those of VGG16 on ImageNet.
- A convolution before batch norm has no bias, which would be redundant.
- No batch norm by choice.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.models.layers import Conv, ConvBlock, check, he_normal, pad_up
from zoo.ops.pool import max_pool_with_indices, max_unpool


class MaxUnpoolNet(nn.Module):
    """Logits of every pixel.

    Any size works: zeros at the bottom and the right make it a multiple of 2 ** len(blocks), and
    the logits are cropped back. (Batch norm counts them when it trains.) Where a picture is flat,
    a feature's maxima tie but for rounding, which then has the choice of places.
    """

    num_classes: int
    width: int = 64  # Features of the first stage; they double, up to eight times as many.
    blocks: tuple[int, ...] = (2, 2, 3, 3, 3)  # Convolutions of each stage, on either side.
    dtype: Literal["float32", "bfloat16"] = "float32"  # Of the computation.
    norm: Literal["batch"] | None = "batch"
    axis_name: str | None = None  # Batch-norm statistics are shared over this axis.
    # A shift of the image by so many px shifts the logits alike, away from borders.
    stride = property(lambda self: 2 ** len(self.blocks))

    @property
    def halo(self) -> int:
        """Pixels on each side of an output pixel that it can depend on, once trained.

        From below: r on one level is 2r + 1 on the level above (one more for the side of its 2x2
        block a pixel lies on), and n convolutions add n on either side of the pooling. Below the
        last one r is 0; the one more holds there too, as the whole block decides on the place.
        """
        return sum(2**level * (2 * n + 1) for level, n in enumerate(self.blocks))

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] float -> logits [b, h, w, num_classes] float32; raises as `check`."""
        check(self, image)
        height, width = image.shape[1:3]
        x = pad_up(image.astype(self.dtype), self.stride)

        def stage(x: jax.Array, name: str, *features: int) -> jax.Array:
            options = ("SAME", self.norm, self.dtype, self.axis_name)
            return ConvBlock(features, *options, name=name)(x, train=train)

        features = [self.width * min(2**level, 8) for level in range(len(self.blocks))]
        places = []
        for level, n in enumerate(self.blocks):
            x = stage(x, f"encoder_{level}", *n * [features[level]])
            x, indices = max_pool_with_indices(x, (2, 2), (2, 2))
            places.append(indices)
        for level, n in reversed(list(enumerate(self.blocks))):
            x = max_unpool(x, places[level], (2 * x.shape[1], 2 * x.shape[2]))
            # The last convolution of a stage makes the features of the next, or the logits.
            last = features[level - 1 : level]
            x = stage(x, f"decoder_{level}", *(n - 1) * [features[level]], *last)
        # float32, or bfloat16 would round the logits to 8 bits.
        head = Conv(self.num_classes, (3, 3), kernel_init=he_normal, name="head")
        return head(x.astype(jnp.float32))[:, :height, :width]
