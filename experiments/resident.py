"""Training whose devices keep the pixels of the whole split and make the batches themselves.

The host plans, see `planner`: which pictures come next, and all that is random in their change,
drawn as `zoo.data.batches.train_batches` draws it. A plan is small, and one dispatch takes many
steps, so that a device does not wait for pictures. Batches are the host's to float32's rounding.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import jax.numpy as jnp
import numpy as np

from experiments.planner import Arrays, Place, Planner, ahead, workers
from zoo.data.augment import places
from zoo.data.batches import iterate, resized, train_batches
from zoo.data.config import Data
from zoo.data.images import Preprocess
from zoo.train.config import Experiment
from zoo.train.parallel import Layout
from zoo.train.run import Run
from zoo.train.state import TrainState

# Steps in one dispatch at most: a signal waits for its end. On a CPU it is a step at a time: in a
# loop quickstart's 20 steps had not ended after two minutes, and take 8 s alone (jax 0.10.2).
LONGEST = {"cpu": 1, "gpu": 64, "tpu": 64}


class Resident(Run):
    """A `Run` whose training split lies on every device.

    Raises ValueError as `Run` and `hold`, and for what only the host can do: batches that are not
    those of `train_batches`, weights of borders; and for "fsdp".
    """

    def __init__(self, experiment: Experiment, layout: Layout):
        host = "leave out --on-device"
        if layout.how == "fsdp":
            raise ValueError(f"--parallel fsdp keeps no data on the devices: take jit, or {host}.")
        if weight := experiment.data.border_weight:
            problem = f"data.border_weight={weight} is computed on the host"
            raise ValueError(f"{problem}: set it to 0, or {host}.")
        super().__init__(experiment, layout)
        # Called at each log line, when the device has nothing to do: operation by operation it took
        # 0.26 ms on a CPU, compiled 0.02 ms.
        self.learning_rate = jax.jit(self.learning_rate)
        if self.task.train_batches is not train_batches:
            task = type(experiment.task).__name__
            raise ValueError(f"{task} makes training batches of its own on the host: {host}.")
        data, preprocess = experiment.data, self.preprocess
        found, pixels = hold(self.train_source, data, preprocess)
        self.planner = Planner(found, data, preprocess, experiment.seed, self._where)
        self._pixels = layout.put(pixels)
        make = batch_maker(data, preprocess, self.info.ignore_label)
        self._many = layout.map(make_many(self.step, make), donate=True, alike=1)

    def chunks(self, start: int, mined: None = None) -> Iterator[tuple[int, Callable]]:
        """As of `Run`: up to the next step at which the loop logs, evaluates or saves."""
        config = self.experiment
        every = (config.log_every, config.eval_every, config.checkpoint_every, config.steps)
        platform = self.layout.devices[0].platform
        longest, count = LONGEST[platform], workers(platform)
        # Of a loop two at least: XLA compiles one over a single step apart, with other roundings.
        room = longest if longest == 1 else max(min(*every, longest), 2)
        ends = [start]
        while (step := ends[-1]) < config.steps:
            ends.append(min(step + room, *(step - step % n + n for n in every)))
        with ahead(self.planner, count) as plan:

            def ready(i: int) -> tuple[int, Arrays]:
                """Sent ahead too: between two chunks nothing is left to do but the dispatch."""
                draw = plan if i else self.planner  # The processes start while XLA compiles.
                return ends[i + 1], self.split(draw((ends[i], ends[i + 1], room)))

            chunks = grain.MapDataset.range(len(ends) - 1).map(ready)
            for end, plans in iterate(chunks, 0, count or config.data.threads):
                yield end, lambda state, plans=plans: self._many(state, plans, self._pixels)


def hold(source: Sequence, data: Data, preprocess: Preprocess) -> tuple[list[Place], Arrays]:
    """A split read whole: the places of its pictures, and what lies there, in 0..255.

    That is "image" [n, c] uint8, float32 where `data.size` resizes, and "label" [n] uint8. Raises
    ValueError where they take more than `data.cache_mib` or, uncropped, are of several sizes.
    """
    found, images, labels, start, size = [], [], [], 0, 0
    host = "or leave out --on-device"
    for example in iterate(grain.MapDataset.source(source), 0, data.threads):
        image, label = resized(example, preprocess)
        found.append((start, label.shape))
        images.append(image.reshape(-1, image.shape[-1]))
        labels.append(label.reshape(-1))
        start, size = start + label.size, size + image.nbytes + label.nbytes
        if size > data.cache_mib * 2**20 or start >= 2**31:  # Places are int32.
            read = f"{len(found)} of the {len(source)} training pictures of {source.info.name}"
            problem = f"{read} are more than data.cache_mib={data.cache_mib} MiB (or 2^31 pixels)"
            raise ValueError(f"{problem}: let a device keep more, {host}.")
        if data.crop is None and label.shape != (first := found[0][1]):
            problem = f"{example['name']} is {label.shape} and a picture before it {first} (h, w)"
            hint = f"set data.crop (cuts and pads), {host}"
            raise ValueError(f"{problem}, but all batches have one size: {hint}.")
    return found, {"image": np.concatenate(images), "label": np.concatenate(labels)}


def batch_maker(data: Data, preprocess: Preprocess, ignore_label: int) -> Callable:
    """Builds `make(pixels, plan) -> batch`: what `train_batches` makes where it plans this."""
    fill = np.array([255 * mean for mean in preprocess.mean], np.float32)
    normalise, how = dataclasses.replace(preprocess, size=None), data.augment
    deforms = how.rotate or how.shear or how.shift or how.elastic_sigma or how.scale != (1.0, 1.0)

    def one(pixels: Arrays, plan: Arrays) -> tuple[jax.Array, jax.Array]:
        """One picture and its mask."""
        start, down, across, height, width = plan["place"]

        def read(name: str, y: jax.Array, x: jax.Array) -> jax.Array:
            """What is at whole places, float32 and int32; outside, the fill and void."""
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            place = start + down * y.astype(jnp.int32) + across * x.astype(jnp.int32)
            found = jnp.take(pixels[name], jnp.where(inside, place, 0), axis=0, mode="clip")
            if name == "label":
                return jnp.where(inside, found.astype(jnp.int32), ignore_label)
            found = found.astype(jnp.float32)
            if "colours" in plan:
                matrix, offset = plan["colours"][:, :-1], plan["colours"][:, -1]
                found = jnp.clip(found @ matrix.T + offset, 0, 255)
            return jnp.where(inside[..., None], found, fill)

        y, x = places(plan)
        label = read("label", jnp.round(y), jnp.round(x))
        if not deforms:
            return normalise(read("image", y, x)), label
        top, left = jnp.floor(y), jnp.floor(x)
        below, beside = (y - top)[..., None], (x - left)[..., None]
        upper, lower = (
            read("image", row, left) * (1 - beside) + read("image", row, left + 1) * beside
            for row in (top, top + 1)
        )
        return normalise(upper * (1 - below) + lower * below), label

    def make(pixels: Arrays, plan: Arrays) -> Arrays:
        # In bfloat16 colours would have 8 bits, and a place would be off by pixels.
        with jax.default_matmul_precision("highest"):
            image, label = jax.vmap(one, in_axes=(None, 0))(pixels, plan)
        return {"image": image, "label": label, "weight": plan["weight"]}

    return make


def make_many(step: Callable, make: Callable) -> Callable:
    """Builds `many(state, plans, pixels, axis_name=None) -> state, metrics`: a step for each plan.

    Plans are [b, n, ...]; those of weight 0, the last, are not taken, and their metrics are 0, of
    [n] float32. How many are taken is no part of the program: XLA would compile one for each
    number, with other roundings.
    """

    def many(state: TrainState, plans: Arrays, pixels: Arrays, axis_name: str | None = None):
        def take(state: TrainState, i: jax.Array | int):
            batch = make(pixels, jax.tree.map(lambda x: x[:, i], plans))
            return step(state, batch, axis_name)

        def add(i, carry):
            state, metrics = take(carry[0], i)
            return state, jax.tree.map(lambda kept, x: kept.at[i].set(x), carry[1], metrics)

        weight = plans["weight"]
        if weight.shape[1] == 1:  # No loop.
            state, metrics = take(state, 0)
            return state, jax.tree.map(jnp.atleast_1d, metrics)
        metrics = jax.eval_shape(take, state, 0)[1]
        kept = jax.tree.map(lambda x: jnp.zeros(weight.shape[1], x.dtype), metrics)
        return jax.lax.fori_loop(0, (weight[0] > 0).sum(), add, (state, kept))

    return many
