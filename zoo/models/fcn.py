"""Fully convolutional networks on VGG16: FCN-32s, and FCN-16s and FCN-8s with finer skips.

Shelhamer, Long & Darrell, "Fully Convolutional Networks for Semantic Segmentation", TPAMI 2017,
arXiv:1605.06211, and Long et al., CVPR 2015, arXiv:1411.4038. Crops, scales and scores that start
at zero are of the authors' release (shelhamer/fcn.berkeleyvision.org). Departures:
- Convolutions keep the size by zeros of their own, unless asked; `pad=100` is the release.
- All up-sampling is learned from its bilinear start, across classes too, as in the authors'
  "original experiments"; the papers fix the last, their release all, with "no significant
  difference".
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo.models import layers
from zoo.models.weights import load_weights
from zoo.ops.pool import max_pool_2x2

_FIELDS = {"pad": (lambda pad: pad in (0, 100), "one of 0, 100")}
_CONVOLUTIONS = (2, 2, 3, 3, 3)  # Of each stage; a pooling follows.
_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # Of theirs, in torchvision.


class FCN32s(nn.Module):
    """Logits of every pixel, from scores 32 px apart.

    Any size works: pictures are padded with zeros to multiples of 32 px, and logits are cropped.
    A run starts (`init_from`) from torchvision's VGG16, which is of RGB pictures less ImageNet's
    mean and over its deviation, or from the workdir of an FCN; the paper trains 32s, 16s, then 8s.
    """

    num_classes: int
    width: int = 64  # Features at full size, eight times as many at most; 64 times in fc6 and fc7.
    pad: Literal[0, 100] = 0  # Zeros around the picture; with 100, fc6 has none of its own.
    dtype: Literal["float32", "bfloat16"] = "float32"  # Of the computation, up to the scores.
    dropout_rate: float = 0.5  # Behind fc6 and fc7.
    axis_name: str | None = None  # As every model has it; there are no statistics to share.

    output_stride = 32  # Pixels between the scores that the last up-sampling takes.
    stride = 32  # A shift of the image by so many px shifts the logits alike, away from borders.

    @property
    def halo(self) -> int:
        """Pixels on each side of an output pixel that it can depend on, once trained.

        Stages reach 90 px, and fc6 3 * 32, beyond a score's 32; and a pixel hangs on two scores.
        """
        return 32 + 3 * 32 + 90 + 31 - self.output_stride // 2

    @property
    def whole(self) -> bool:
        """Whether tiles differ from the picture, whose size decides where `pad`'s pools end."""
        return self.pad > 0

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] float -> logits [b, h, w, num_classes] float32; raises as `layers.check`."""
        layers.check(self, image, _FIELDS)
        x, padding = image.astype(self.dtype), "VALID" if self.pad else "SAME"
        edge = (self.pad - 1,) * 2  # The first convolution has the last of the zeros.
        x = jnp.pad(x, ((0, 0), edge, edge, (0, 0))) if self.pad else layers.pad_up(x, self.stride)
        pools, joined = [], {32: 0, 16: 1, 8: 2}[self.output_stride]
        for level, n in enumerate(_CONVOLUTIONS):
            features = n * (self.width * min(2**level, 8),)
            x = layers.ConvBlock(features, dtype=self.dtype, name=f"stage_{level + 1}")(x)
            # Beside `pad` a side may be odd: Caffe rounds up, and 0 is no maximum behind a ReLU.
            x = max_pool_2x2(layers.pad_up(x, 2))
            pools.append(x)
        for name, side in (("fc6", 7), ("fc7", 1)):
            options = {"dtype": jnp.dtype(self.dtype), "kernel_init": layers.he_normal}
            conv = layers.Conv(64 * self.width, (side, side), padding=padding, name=name, **options)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.relu(conv(x)))

        def score(x: jax.Array, name: str) -> jax.Array:
            # float32, or bfloat16 would round the logits to 8 bits.
            conv = nn.Conv(self.num_classes, (1, 1), kernel_init=nn.initializers.zeros, name=name)
            return conv(x.astype(jnp.float32))

        def upscore(x: jax.Array, factor: int, name: str) -> jax.Array:
            how = (2 * factor,) * 2, (factor,) * 2, padding, layers.bilinear_kernel
            with jax.default_matmul_precision("highest"):  # The scores' float32 is kept.
                return layers.ConvTranspose(self.num_classes, *how, use_bias=False, name=name)(x)

        def crop(x: jax.Array, first: int, like: jax.Array) -> jax.Array:
            (h, w), first = like.shape[1:3], first if self.pad else 0
            return x[:, first : first + h, first : first + w]

        x = score(x, "score_fr")
        # Of the release's zeros; without them all maps begin at one corner.
        skips = ((4, "upscore2", 0.01, 5), (3, "upscore_pool4", 1e-4, 9))
        for level, name, scale, first in skips[:joined]:
            x = upscore(x, 2, name)
            pool = pools[level - 1] * (scale if self.scale_skips else 1)
            x = x + crop(score(pool, f"score_pool{level}"), first, x)
        x = upscore(x, self.output_stride, f"upscore{self.output_stride}")
        return crop(x, (19, 27, 31)[joined], image)

    @nn.nowrap
    def pretrained(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `params` that a file of VGG16 holds; ValueError for another file."""
        return vgg16_params(load_weights(path), params)


class FCN16s(FCN32s):
    """FCN-32s and the scores of pool4."""

    scale_skips: bool = False  # Pools times 0.01 and 0.0001 before scores: training "at once".

    output_stride = 16


class FCN8s(FCN16s):
    """FCN-16s and the scores of pool3."""

    output_stride = 8


def vgg16_params(tensors: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an FCN's `params` (arrays or their shapes) that torchvision's VGG16 has, in float32.

    `tensors` are its state dict, of which the last layer, ImageNet's classes, is left out. Raises
    ValueError naming the first tensor whose name or shape differs.
    """
    paths = [(f"stage_{i}", f"Conv_{j}") for i, n in enumerate(_CONVOLUTIONS, 1) for j in range(n)]
    places = [*(f"features.{i}" for i in _NUMBERS), "classifier.0", "classifier.3"]
    shapes = {path: x.shape for path, x in flatten_dict(params).items()}
    wanted, found = {}, {}  # Of a dense layer the inputs are channels, then rows and columns.
    for place, path in zip(places, [*paths, ("fc6",), ("fc7",)], strict=True):
        kh, kw, c, out = shapes[(*path, "kernel")]
        shape = [out, c, kh, kw] if place.startswith("features") else [out, c * kh * kw]
        wanted[f"{place}.weight"] = (*path, "kernel"), shape
        wanted[f"{place}.bias"] = (*path, "bias"), [out]
    for name in [*wanted, *(n for n in tensors if not n.startswith("classifier.6."))]:
        theirs = list(tensors[name].shape) if name in tensors else "absent"
        if name not in wanted or theirs != wanted[name][1]:
            ours = wanted[name][1] if name in wanted else "absent"
            problem = f"Not this VGG16: {name} is {theirs} in the file and {ours} in the model"
            raise ValueError(f"{problem}; take torchvision's vgg16, width 64 and colour pictures.")
    for name, (path, _) in wanted.items():
        found[path] = np.asarray(tensors[name], np.float32)
        if path[-1] == "kernel":
            kh, kw, c, out = shapes[path]
            found[path] = found[path].reshape(out, c, kh, kw).transpose(2, 3, 1, 0)
    return unflatten_dict(found)
