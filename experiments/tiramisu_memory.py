"""Memory and time of a training step of FC-DenseNet103 beside the same network in plain Flax.

python -m experiments.tiramisu_memory [--size 224] [--batch 3] [--repeats 3] [--cache DIR]
The plain network comes twice: as it stands, and with `nn.remat` of its dense blocks, to be looked
at on a GPU (on CPU, XLA drops its barriers and the memory stays). Steps alternate; times are
medians in seconds, of the wall and of all cores together. `init` is the start of a training, its
own compilation included. With a cache a second run prints what a warm compile takes.
"""

import argparse
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from zoo.models import FCDenseNet103
from zoo.train.state import create


class PlainLayer(nn.Module):
    features: int
    kernel_size: int
    dropout_rate: float

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-4, name="norm")(x))
        x = nn.Conv(self.features, 2 * (self.kernel_size,), name="conv")(x)
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x)


class Plain(nn.Module):
    """The network as it is drawn in the paper, for sizes that the stride divides."""

    model: nn.Module  # Whose fields it takes.
    remat: bool = False  # A block's maps are not kept but computed again.

    @nn.compact
    def __call__(self, image, *, train=False):
        lowest = len(self.model.blocks) - 1

        def layer(x, features, kernel_size, name):
            return PlainLayer(features, kernel_size, self.model.dropout_rate, name=name)(x, train)

        def block(x, level, name):
            def grow(_, x):
                new = []
                for i in range(self.model.blocks[level]):
                    y = layer(x, self.model.growth_rate, 3, f"{name}_{level}_layer_{i}")
                    new.append(y)
                    x = jnp.concatenate([x, y], -1)
                return x, jnp.concatenate(new, -1)

            return (nn.remat(grow) if self.remat else grow)(self, x)

        x, skips = nn.Conv(self.model.features, (3, 3), name="first")(image), []
        for level in range(lowest):
            x, _ = block(x, level, "down")
            skips.append(x)
            x = layer(x, x.shape[-1], 1, f"transition_down_{level}")
            x = nn.max_pool(x, (2, 2), (2, 2))
        _, new = block(x, lowest, "down")
        for level in reversed(range(lowest)):
            options = {"transpose_kernel": True, "name": f"transition_up_{level}"}
            up = nn.ConvTranspose(new.shape[-1], (3, 3), (2, 2), "VALID", **options)
            x = jnp.concatenate([skips[level], up(new)[:, :-1, :-1]], -1)
            x, new = block(x, level, "up")
        return nn.Conv(self.model.num_classes, (1, 1), name="head")(x)


def train_step(model, image, label):
    """A step of SGD, not yet compiled, and zeros to run it on."""

    def step(variables, image, label, key):
        def loss(params):
            logits, after = model.apply(
                {**variables, "params": params},
                image,
                train=True,
                mutable="batch_stats",
                rngs={"dropout": key},
            )
            picked = jnp.take_along_axis(logits, label[..., None], -1)[..., 0]
            return (jax.nn.logsumexp(logits, -1) - picked).mean(), after

        (value, after), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 1e-3 * g, variables["params"], grads)
        return {"params": params, **after}, value

    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(rng.normal(0.5, 0.05, leaf.shape) if leaf.ndim < 2 else 0.01),
        shapes,
    )
    variables = jax.tree.map(lambda a, leaf: jnp.broadcast_to(a, leaf.shape), variables, shapes)
    return jax.jit(step), (variables, image, label, jax.random.key(1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache")
    options = parser.parse_args()
    if options.cache:
        jax.config.update("jax_compilation_cache_dir", options.cache)
    model = FCDenseNet103(num_classes=11)
    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size)
    image = rng.normal(size=(*shape, 3)).astype(np.float32)
    label = rng.integers(0, 11, shape)
    runs, wall, cores = {}, {}, {}
    networks = {"ours": model, "plain": Plain(model), "remat": Plain(model, remat=True)}
    for name, network in networks.items():
        step, inputs = train_step(network, image, label)
        start, busy = time.perf_counter(), time.process_time()
        lowered = step.lower(*inputs)
        traced = time.perf_counter()
        compiled = lowered.compile()
        print(
            f"{name:6s} {compiled.memory_analysis().temp_size_in_bytes / 2**30:6.2f} GiB; "
            f"trace {traced - start:.1f} s, compile {time.perf_counter() - traced:.1f} s "
            f"({time.process_time() - busy:.1f} s of cores together)",
            flush=True,
        )
        runs[name], wall[name], cores[name] = (compiled, inputs), [], []
        start, busy = time.perf_counter(), time.process_time()
        jax.block_until_ready(create(network, (image[:1],), optax.identity(), seed=0, ema=False))
        took, used = time.perf_counter() - start, time.process_time() - busy
        print(f"{name:6s} init {took:.1f} s, of cores {used:.1f} s", flush=True)
    for _ in range(options.repeats + 1):
        for name, (compiled, inputs) in runs.items():
            start, busy = time.perf_counter(), time.process_time()
            jax.block_until_ready(compiled(*inputs))
            wall[name].append(time.perf_counter() - start)
            cores[name].append(time.process_time() - busy)
    for name in runs:  # Without the first, which warms up.
        took, used = (statistics.median(times[name][1:]) for times in (wall, cores))
        print(f"{name:6s} step {took:.2f} s, of cores {used:.2f} s")
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{shape}, {os.cpu_count()} cores, load {load}, jax {jax.__version__}")


if __name__ == "__main__":
    main()
