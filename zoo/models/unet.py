"""U-Net: an encoder, a decoder, and a skip at every size.

Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, arXiv:1505.04597. Departures:

- `padding` is "SAME" unless asked; "VALID" is the paper's network, 572 px to 388.
- One dropout of 0.5, behind the lowest block. The paper says "at the end of the contracting path"
  and no rate; the authors' Caffe release has 0.5 there and on the level above (and a ReLU behind
  each up-convolution, which the paper has not).
- Down by pooling as the paper, or by a 2x2 convolution of stride 2 (`down="conv"`).
- Batch norm, between convolution and ReLU, and ICNR's start by choice; the paper has neither.
- Deep supervision by choice: nnU-Net's, Nature Methods 2021, but logits grow, not labels shrink.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.models.layers import Conv, ConvBlock, ConvTranspose, check, he_normal, pad_up
from zoo.ops import centre_crop, max_pool_2x2, upsample_nearest

_FIELDS = {
    "padding": (lambda name: name in ("SAME", "VALID"), "one of SAME, VALID"),
    "down": (lambda name: name in ("pool", "conv"), "one of pool, conv"),
}


class UNet(nn.Module):
    """Logits of every pixel.

    With padding "SAME" any size works: zeros at the bottom and the right make it a multiple of
    2**depth, and the logits are cropped back. (Batch norm counts them when it trains.)
    """

    num_classes: int
    width: int = 64  # Features at full size; they double at every level.
    depth: int = 4  # Times the size is halved, and the number of skips.
    padding: Literal["SAME", "VALID"] = "SAME"
    dtype: Literal["float32", "bfloat16"] = "float32"  # Of the computation.
    norm: Literal["batch"] | None = None
    dropout_rate: float = 0.5
    down: Literal["pool", "conv"] = "pool"
    deep_supervision: int = 0  # Levels with logits below full size, training; nnU-Net: depth - 2.
    icnr: bool = False  # Up-convolutions start as nearest up-sampling, without dithered edges.
    axis_name: str | None = None  # Batch-norm statistics are shared over this axis.
    # A shift of the image by so many px shifts the logits alike, away from borders.
    stride = property(lambda self: 2**self.depth)

    @property
    def halo(self) -> int:
        """Pixels on each side of an output pixel that it can depend on, once trained.

        From below: a block reaches 2 px, r on one level is 2r + 1 on the level above (one more
        for the side of its 2x2 block a pixel lies on), and two blocks add 4.
        """
        return 7 * 2**self.depth - 5

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array | tuple:
        """[b, h, w, c] float -> logits [b, h', w', num_classes] float32.

        h' = h with padding "SAME" and h - 12 * 2**depth + 8 with "VALID". Deep supervision makes it
        a tuple in training: these and those of the levels below, of one size. Raises ValueError
        where a field or the image's rank, type or size is impossible.
        """
        check(self, image, _FIELDS)
        if not 0 <= (deep := self.deep_supervision) < self.depth:
            raise ValueError(f"UNet.deep_supervision must be in 0..{self.depth - 1}; got {deep}.")
        height, width = image.shape[1:3]
        x = image.astype(self.dtype)
        if self.padding == "SAME":
            x = pad_up(x, self.stride)
        else:
            self._check_valid(height)
            self._check_valid(width)

        def block(x: jax.Array, level: int, name: str) -> jax.Array:
            options = (self.padding, self.norm, self.dtype, self.axis_name)
            features = 2 * (self.width * 2**level,)
            return ConvBlock(features, *options, name=f"{name}_{level}")(x, train=train)

        def head(x: jax.Array, name: str) -> jax.Array:
            # float32, or bfloat16 would round the logits to 8 bits.
            conv = Conv(self.num_classes, (1, 1), kernel_init=he_normal, name=name)
            return conv(x.astype(jnp.float32))

        skips, coarse = [], []
        for level in range(self.depth):
            x = block(x, level, "encoder")
            skips.append(x)
            if self.down == "pool":
                x = max_pool_2x2(x)
            else:
                how = {"dtype": jnp.dtype(self.dtype), "kernel_init": he_normal}
                x = nn.Conv(x.shape[-1], (2, 2), (2, 2), "VALID", name=f"down_{level}", **how)(x)
        x = block(x, self.depth, "encoder")
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        for level in reversed(range(self.depth)):
            up = {"kernel_init": _icnr if self.icnr else None, "name": f"up_{level}"}
            x = ConvTranspose(self.width * 2**level, dtype=self.dtype, **up)(x)
            x = jnp.concatenate([centre_crop(skips[level], x.shape[1:3]), x], axis=-1)
            x = block(x, level, "decoder")
            if 0 < level <= deep and (train or self.is_initializing()):
                coarse.insert(0, upsample_nearest(head(x, f"head_{level}"), 2**level))
        if self.padding == "SAME":
            x, *coarse = (y[:, :height, :width] for y in (x, *coarse))
        logits = head(x, "head")
        coarse = (centre_crop(y, logits.shape[1:3]) for y in coarse)
        return (logits, *coarse) if train and deep else logits

    def _check_valid(self, side: int) -> None:
        """Legal sides are 2**depth * n + 4 * (2**depth - 1), n the lowest block's input."""
        # What is lost in all is 12 * 2**depth - 8, and one pixel at least must be left.
        offset, lost = 4 * (self.stride - 1), 12 * self.stride - 8
        smallest = lost + 1 + (offset - lost - 1) % self.stride
        below = side - (side - offset) % self.stride
        if smallest <= side == below:
            return
        sizes = f"{below} and {below + self.stride}"
        why = f"a pooling would meet an odd side; the nearest legal sizes are {sizes}"
        if side < smallest:
            why = f"nothing would be left; the smallest legal size is {smallest}"
        raise ValueError(f'UNet(depth={self.depth}, padding="VALID") cannot take {side} px: {why}.')


def _icnr(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """An initializer [2, 2, out, in], alike at all four places; Aitken et al., arXiv:1707.02937."""
    one = nn.initializers.normal((2 / shape[3]) ** 0.5)(key, (1, 1, *shape[2:]), dtype)
    return jnp.broadcast_to(one, shape)
