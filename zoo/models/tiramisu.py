"""FC-DenseNet: dense blocks on the way down, and again on the way up beside the skips.

Jegou, Drozdzal, Vazquez, Romero & Bengio, "The One Hundred Layers Tiramisu", arXiv:1611.09326;
what it leaves open (biases, cuts, epsilon 1e-4) as in the authors' code. Departures: sides are
padded to the stride, where their poolings drop an odd last row; and they evaluate by statistics of
a batch, where "batch" here takes each image's own, so it does not matter which ones share it.

A layer reads all maps before it. Differentiated as it stands, a block keeps them once a layer:
joined, normalised, rectified. Here they share one array, and so do their gradients; a map's mean
and variance are taken once for all its readers (scale and shift are each layer's own); and the
backward pass computes a layer's input again, from maps made to depend on the cotangent. XLA would
else, on CPU, compute all of them at once, or keep the forward pass's.
"""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.models.layers import Conv, ConvTranspose, check, pad_up, running_averages
from zoo.ops import max_pool_2x2, mean_and_var
from zoo.ops.convolution import convolution

he_uniform = nn.initializers.he_uniform()
_FIELDS = {"eval_statistics": (lambda s: s in ("running", "batch"), "one of running, batch")}


# [b, h, w, c]; and to normalise by, mean and variance [1, 1, 1, c] float32, [b, ...] by image.
Maps = tuple[jax.Array, jax.Array, jax.Array]


class Mode(NamedTuple):
    train: bool
    measured: bool  # By statistics of the maps themselves, or by running averages.
    dropout_rate: float  # 0 where it does not train.
    axis_name: str | None  # Statistics are shared over it.
    size: tuple[int, int]  # Rows and columns, the first ones, that lie on the image.


def _measure(mode: Mode, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = x[:, : mode.size[0], : mode.size[1]]
    if mode.train:
        measured = mean_and_var(x, mode.axis_name)
    else:
        measured = jax.vmap(lambda image: mean_and_var(image[None]))(x)
    return tuple(v.reshape(-1, 1, 1, x.shape[-1]) for v in measured)


def _layer(mode: Mode, maps: Maps, p: dict[str, jax.Array], kept) -> jax.Array:
    """Batch norm, ReLU, convolution, dropout of what is not kept: [b, h, w, features]."""
    x, mean, var = maps
    gain = p["scale"] * jax.lax.rsqrt(var + 1e-4)
    y = nn.relu(x * gain + (p["shift"] - mean * gain)).astype(x.dtype)
    kernel, names = p["kernel"].astype(x.dtype), ("NHWC", "HWIO", "NHWC")
    y = convolution(y, kernel, (1, 1), "SAME", dimension_numbers=names)
    y = y + p["bias"].astype(x.dtype)
    return y if kept is None else jnp.where(kept, y / (1 - mode.dropout_rate), 0).astype(x.dtype)


def _layer_backward(mode: Mode, inputs: tuple, ct: jax.Array) -> tuple:
    maps, p, kept = inputs
    maps = maps[0] + 0 * ct[0, 0, 0, 0], *maps[1:]  # Not before the cotangent is there.
    return *jax.vjp(lambda *inputs: _layer(mode, *inputs, kept), maps, p)[1](ct), None


_recomputed_layer = jax.custom_vjp(_layer, nondiff_argnums=(0,))
_recomputed_layer.defvjp(lambda mode, *inputs: (_layer(mode, *inputs), inputs), _layer_backward)


def _grow(mode: Mode, maps: Maps, layers: list, kept: list, running: list) -> Maps:
    """The maps and, behind them, those that each layer makes of all before it."""
    (x, mean, var), c, g = maps, maps[0].shape[-1], layers[0]["bias"].size
    x = jnp.pad(x, (*3 * [(0, 0)], (0, g * len(layers))))
    for p, keep, known in zip(layers, kept, running, strict=True):
        new = _layer(mode, (x[..., :c], mean, var), p, keep)
        known = _measure(mode, new) if mode.measured else known
        mean, var = (jnp.concatenate(pair, -1) for pair in zip((mean, var), known, strict=True))
        x, c = x.at[..., c : c + g].set(new), c + g
    return x, mean, var


def _grow_backward(mode: Mode, saved: tuple, ct: Maps) -> tuple:
    maps, layers, kept = saved
    x, end, g, gradients = maps[0], maps[0].shape[-1], layers[0]["bias"].size, []
    for p, keep in zip(reversed(layers), reversed(kept), strict=True):
        c = end - g
        # All that reads the new maps is done: add the gradient by their statistics.
        measure = jax.vjp(functools.partial(_measure, mode), x[..., c:end])[1]
        (due,) = measure(tuple(v[..., c:end] for v in ct[1:]))
        inputs = tuple(v[..., :c] for v in maps), p, keep
        more, dp, _ = _layer_backward(mode, inputs, ct[0][..., c:end] + due)
        ct = tuple(v.at[..., :c].add(dv) for v, dv in zip(ct, more, strict=True))
        gradients.insert(0, dp)
        end = c
    return tuple(v[..., :end] for v in ct), gradients, None, None


_grow_in_training = jax.custom_vjp(_grow, nondiff_argnums=(0,))
_grow_in_training.defvjp(
    lambda mode, *inputs: (maps := _grow(mode, *inputs), (maps, *inputs[1:3])), _grow_backward
)


def _draw(key: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """What dropout keeps, each by 16 random bits: `bernoulli` takes 32 and 3.5 times as long."""
    size = math.prod(shape)
    bits = jax.lax.bitcast_convert_type(jax.random.bits(key, (-(-size // 2),)), jnp.uint16)
    return bits.reshape(-1)[:size].reshape(shape) < np.uint16(min((1 - rate) * 2**16, 2**16 - 1))


def _kernels(key: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """As `he_uniform`, by one draw: one for each of 100 layers takes XLA thrice as long."""
    sizes = [math.prod(shape) for shape in shapes]
    drawn = jax.random.uniform(key, sum(sizes), jnp.float32, minval=-1)
    parts = jnp.split(drawn, np.cumsum(sizes)[:-1])
    bounds = [math.sqrt(6 / math.prod(shape[:-1])) for shape in shapes]
    return [bound * x.reshape(shape) for bound, x, shape in zip(bounds, parts, shapes, strict=True)]


class Layer(nn.Module):
    """The float32 parameters of a layer, by the shape of its kernel."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, kernel: jax.Array | None = None) -> dict[str, jax.Array]:
        c, out = self.shape[2:3], self.shape[3:]
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        leaves = {"scale": (ones, c), "shift": (zeros, c), "bias": (zeros, out)}
        leaves["kernel"] = he_uniform if kernel is None else lambda *_: kernel, self.shape
        return {name: self.param(name, *leaf, jnp.float32) for name, leaf in leaves.items()}


class DenseBlock(nn.Module):
    """Maps that are skipped to here (if any), those given, and depth * growth_rate new ones."""

    depth: int
    growth_rate: int
    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array, skip: Maps | None = None) -> Maps:
        mode, c, g = self.mode, x.shape[-1], self.growth_rate
        averages = running_averages(self, c + self.depth * g)
        parts = [c + i * g for i in range(self.depth)]
        split = [jnp.split(v.value.reshape(1, 1, 1, -1), parts, -1) for v in averages]
        known, *running = zip(*split, strict=True)
        maps = x, *(_measure(mode, x) if mode.measured else known)
        if skip is not None:
            maps = tuple(jnp.concatenate(pair, -1) for pair in zip(skip, maps, strict=True))
        before = maps[0].shape[-1] - c
        shapes, kernels = [(3, 3, before + n, g) for n in parts], [None] * self.depth
        if self.is_initializing():
            kernels = _kernels(self.make_rng("params"), shapes)
        pairs = enumerate(zip(shapes, kernels, strict=True))
        layers = [Layer(shape, name=f"layer_{i}")(kernel) for i, (shape, kernel) in pairs]
        kept, rate = [None] * self.depth, mode.dropout_rate
        if rate:
            kept = _draw(self.make_rng("dropout"), rate, (*x.shape[:3], self.depth * g))
            kept = jnp.split(kept, self.depth, -1)
        maps = (_grow_in_training if mode.train else _grow)(mode, maps, layers, kept, running)
        if mode.train and not self.is_initializing():
            for average, new in zip(averages, maps[1:], strict=True):
                average.value += 0.1 * (new[0, 0, 0, before:] - average.value)
        return maps


class FCDenseNet(nn.Module):
    """Logits of every pixel.

    Any size works: zeros at the bottom and the right make it a multiple of the stride, and the
    logits are cropped back. No statistics count them, not in training either.
    """

    num_classes: int
    growth_rate: int = 16  # Channels that a layer adds; k in the paper.
    blocks: tuple[int, ...] = (4, 5, 7, 10, 12, 15)  # Layers, from above; all but the last twice.
    features: int = 48  # Of the first convolution.
    dtype: Literal["float32", "bfloat16"] = "float32"  # Of the computation.
    dropout_rate: float = 0.2
    # "batch" normalises each image by its own statistics when it does not train.
    eval_statistics: Literal["running", "batch"] = "running"
    axis_name: str | None = None  # In training, batch-norm statistics are shared over this axis.
    # A shift of the image by so many px shifts the logits alike, away from borders.
    stride = property(lambda self: 2 ** (len(self.blocks) - 1))

    @property
    def halo(self) -> int:
        """Pixels on each side of an output pixel that it can depend on; statistics aside.

        From below: n layers reach n px, and r px are 2r + 2 on the level above, as the transposed
        convolution brings the pixel before; there n layers on either side of it add 2n.
        """
        *blocks, lowest = self.blocks
        return 1 + self.stride * lowest + sum(2**i * (2 * n + 2) for i, n in enumerate(blocks))

    @property
    def whole(self) -> bool:
        """Whether tiles differ from the whole picture: each would have statistics of its own."""
        return self.eval_statistics == "batch"

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
        """[b, h, w, c] float -> logits [b, h, w, num_classes] float32; raises as `check`."""
        check(self, image, _FIELDS)
        height, width = image.shape[1:3]
        measured, rate = train or self.whole, self.dropout_rate if train else 0
        axis_name = self.axis_name if train and not self.is_initializing() else None
        mode = Mode(train, measured, rate, axis_name, (height, width))
        options = {"dtype": jnp.dtype(self.dtype), "kernel_init": he_uniform}

        def block(level: int, name: str, *inputs) -> Maps:
            size = -(-height // 2**level), -(-width // 2**level)
            fields = self.blocks[level], self.growth_rate, mode._replace(size=size)
            return DenseBlock(*fields, name=f"{name}_{level}")(*inputs)

        x = pad_up(image.astype(self.dtype), self.stride)
        x, skips = Conv(self.features, (3, 3), name="first", **options)(x), []
        *levels, lowest = range(len(self.blocks))
        for level in levels:
            skips.append(block(level, "down", x))
            shape = skips[-1][0].shape
            p = Layer((1, 1, *2 * shape[-1:]), name=f"transition_down_{level}")()
            kept = _draw(self.make_rng("dropout"), rate, shape) if rate else None
            x = max_pool_2x2(_recomputed_layer(mode, skips[-1], p, kept))
        maps = block(lowest, "down", x)
        for level in reversed(levels):
            # A block's new channels alone go up. A row and a column too many come, and are cut.
            x = maps[0][..., -self.growth_rate * self.blocks[level + 1] :]
            up = {"padding": "VALID", "name": f"transition_up_{level}"} | options
            x = ConvTranspose(x.shape[-1], (3, 3), **up)(x)[:, :-1, :-1]
            maps = block(level, "up", x, skips[level])
        # float32, or bfloat16 would round the logits to 8 bits.
        head = nn.Conv(self.num_classes, (1, 1), kernel_init=he_uniform, name="head")
        return head(maps[0][:, :height, :width].astype(jnp.float32))


FCDenseNet56 = functools.partial(FCDenseNet, growth_rate=12, blocks=6 * (4,))
FCDenseNet67 = functools.partial(FCDenseNet, blocks=6 * (5,))
FCDenseNet103 = FCDenseNet  # The defaults.
