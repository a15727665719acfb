"""A pixel's class from the window around it: a small network slid over the image, or run once.

Ciresan, Giusti, Gambardella & Schmidhuber, "Deep Neural Networks Segment Neuronal Membranes in
Electron Microscopy Images", NIPS 2012; the defaults are its network N4. Windows share most of their
work. The whole image at once, with every layer behind a pooling spread out by what that would have
skipped, has the same logits: Li, Zhao & Wang, "Highly Efficient Forward and Backward Propagation of
Convolutional Neural Networks for Pixelwise Classification", arXiv:1412.4526. Departures: ReLU and
`he_normal` throughout, no foveation, and every pixel trains, not as many of either class.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.models.layers import AT_LEAST_1, FIELDS, Conv, check, he_normal
from zoo.ops.pool import max_pool

_FIELDS = {"kernels": FIELDS["blocks"], "pool": AT_LEAST_1, "window": AT_LEAST_1}


class PatchClassifier(nn.Module):
    """Logits of every pixel, at any size; the image is mirrored, as in the paper.

    n 3x3 convolutions at full resolution are `kernels=n * (3,), window=2 * n + 1, pool=1`.
    """

    num_classes: int
    window: int = 95  # Its side; of an even one the pixel is below and right of the middle.
    kernels: tuple[int, ...] = (4, 5, 4, 4)  # Sides of the convolutions, each before a pooling.
    width: int = 48  # Features of each convolution.
    hidden: int = 200  # Features of the fully connected layer, over all that a window leaves.
    pool: int = 2  # Side and stride of the poolings; with 1 nothing ever reduces the size.
    dtype: Literal["float32", "bfloat16"] = "float32"  # Of the computation.
    axis_name: str | None = None  # Set by the step; nothing here is shared over devices.
    stride = 1  # Shifting the image by this many pixels shifts the logits alike.
    halo = property(lambda self: self.window // 2)  # Pixels on each side that a logit depends on.

    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] float -> logits [b, h, w, num_classes] float32; raises as `check`."""
        check(self, image, _FIELDS)
        return self._logits(self.mirrored(image), 1)

    def classify(self, patch: jax.Array) -> jax.Array:
        """[n, window, window, c] -> logits [n, num_classes] of the middles, same parameters."""
        check(self, patch, _FIELDS)
        if patch.shape[1:3] != (self.window, self.window):
            raise ValueError(f"classify takes {self.window} px squared; got {patch.shape[1:3]}.")
        return self._logits(patch, self.pool)[:, 0, 0]

    def mirrored(self, image: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h + window - 1, w + window - 1, c], all that its pixels see."""
        sides = (self.window // 2, (self.window - 1) // 2)
        # Picture by picture, so that their number can be free in an export by jax 0.7.
        return jax.vmap(lambda x: jnp.pad(x, (sides, sides, (0, 0)), mode="reflect"))(image)

    @nn.compact
    def _logits(self, x: jax.Array, stride: int) -> jax.Array:
        """Of one window, with the poolings' own stride; with stride 1 of all that x holds."""
        least, step, dilation = 1, self.pool ** len(self.kernels), 1
        for k in reversed(self.kernels):
            least = least * self.pool + k - 1
        more, surplus = divmod(self.window - least, step)
        if more < 0 or surplus:
            below = max(self.window - surplus, least)
            legal = f"{below} or {below + step}, with kernels {self.kernels} and pool {self.pool}"
            raise ValueError(f"PatchClassifier.window must be {legal}; got {self.window}.")
        x, dtype = x.astype(self.dtype), jnp.dtype(self.dtype)
        conv = functools.partial(Conv, padding="VALID", dtype=dtype, kernel_init=he_normal)
        for i, k in enumerate(self.kernels):
            x = conv(self.width, (k, k), kernel_dilation=dilation, name=f"conv_{i}")(x)
            x = max_pool(nn.relu(x), self.pool, stride, dilation)
            dilation *= self.pool // stride
        x = conv(self.hidden, 2 * (more + 1,), kernel_dilation=dilation, name="hidden")(x)
        # float32, or bfloat16 would round the logits to 8 bits.
        head = nn.Conv(self.num_classes, (1, 1), kernel_init=he_normal, name="head")
        return head(nn.relu(x).astype(jnp.float32))


def sliding_window(model: PatchClassifier, variables: dict, image: jax.Array) -> jax.Array:
    """What `model.apply(variables, image)` gives, 64 windows at a time: to compare, not to use."""
    seen, size = model.mirrored(image), (1, model.window, model.window, image.shape[-1])

    def one(place: jax.Array) -> jax.Array:
        patch = jax.lax.dynamic_slice(seen, (*place, 0), size)
        return model.apply(variables, patch, method="classify")[0]

    places = jnp.indices(image.shape[:3]).reshape(3, -1).T
    return jax.lax.map(one, places, batch_size=64).reshape(*image.shape[:3], -1)
