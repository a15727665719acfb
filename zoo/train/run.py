"""What an experiment becomes: data, task, model, optimizer and the programs mapped on devices."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from zoo.data.batches import Subset, eval_batches, iterate, train_batches
from zoo.data.images import Preprocess, resize_image
from zoo.data.source import Source, open_source
from zoo.ops.crop import centre_crop
from zoo.train import optimizer, state
from zoo.train.config import Experiment
from zoo.train.parallel import AXIS, Layout, to_host
from zoo.train.step import make_eval_step, make_train_step


class Run:
    """One experiment on one layout of devices.

    Args:
        trains: whether it will train; else the training split is not read for class weights.
        limit: train on the first `limit` examples of the training split alone.

    Raises:
        ValueError: the data cannot be opened, the model does not fit them, or the batch does
            not divide by the devices.
    """

    def __init__(
        self,
        experiment: Experiment,
        layout: Layout,
        *,
        trains: bool = True,
        limit: int | None = None,
    ):
        layout.check_batch(experiment.data.batch_size, experiment.optimizer.accumulate)
        self.experiment = experiment
        self.layout = layout
        self._sources: dict[str, Source] = {}
        self.train_source = self.source(experiment.data.train_split)
        if limit is not None:
            self.train_source = Subset(self.train_source, limit)
        self.info = self.train_source.info
        self.task = experiment.task.bind(self.info, self.train_source if trains else None)
        self.task.check_model(experiment.model)
        self.preprocess = Preprocess(
            self.info.channels, self.info.mean, self.info.std, experiment.data.size
        )
        model = experiment.model
        self.model: nn.Module = (
            model.clone(axis_name=AXIS) if hasattr(model, "axis_name") else model
        )
        self.learning_rate = optimizer.schedule(experiment.optimizer, experiment.steps)
        self.tx = optimizer.optimizer(experiment.optimizer, self.learning_rate)

    def source(self, split: str) -> Source:
        """A split of the data, opened once."""
        if split not in self._sources:
            data = self.experiment.data
            self._sources[split] = open_source(
                data.name,
                split,
                path=data.path,
                image=data.image,
                label=data.label,
                label_offset=data.label_offset,
                num_classes=data.num_classes,
                options=data.options,
                cache_mib=data.cache_mib,
            )
        return self._sources[split]

    @functools.cached_property
    def train_items(self):
        """The training batches of this process: item n is the batch of step n."""
        return train_batches(
            self.train_source,
            self.experiment.data,
            self.preprocess,
            seed=self.experiment.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def batches(self, start: int) -> Iterator[Mapping[str, np.ndarray]]:
        """The training batches of this process from a step on."""
        return iterate(self.train_items, start, self.experiment.data.threads)

    def eval_batches(
        self, split: str, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """A split once, in order; rows that only fill a batch have weight 0."""
        return eval_batches(
            self.source(split),
            self.experiment.data,
            self.preprocess,
            batch_size=self.experiment.data.batch_size,
            process_index=process_index,
            process_count=process_count,
        )

    def blank_inputs(self) -> tuple[np.ndarray, ...]:
        """What the model is called with, one example of zeros."""
        inputs = self.task.inputs(self.train_items[0])
        return jax.tree.map(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), inputs)

    def initial_state(self) -> state.TrainState:
        """The state before the first step, on the default device."""
        config = self.experiment
        # The model without its axis: this runs unmapped.
        return state.create(
            config.model,
            self.blank_inputs(),
            self.tx,
            seed=config.seed,
            ema=config.optimizer.ema > 0,
        )

    @functools.cached_property
    def train_step(self):
        """The mapped step; it takes the memory of the state it is given."""
        config = self.experiment
        step = make_train_step(
            self.model,
            self.task,
            self.tx,
            seed=config.seed,
            ema_decay=config.optimizer.ema,
            accumulate=config.optimizer.accumulate,
        )
        return self.layout.map(step, donate=True)

    @functools.cached_property
    def _eval_step(self):
        return self.layout.map(make_eval_step(self.model, self.task))

    def sums(self, variables: Mapping[str, Any], split: str) -> dict[str, np.ndarray]:
        """The task's sums over a whole split: int64 and float64, every example once.

        Args:
            variables: on the devices, as `layout.put` leaves them or a state holds them.
        """
        totals: dict[str, np.ndarray] = {}
        for batch in self.eval_batches(
            split, process_index=jax.process_index(), process_count=jax.process_count()
        ):
            for name, part in to_host(self._eval_step(variables, self.layout.split(batch))).items():
                wide = part.astype(np.int64 if part.dtype.kind in "iu" else np.float64)
                totals[name] = totals[name] + wide if name in totals else wide
        return totals

    def examples(
        self, variables: Mapping[str, Any], split: str, count: int
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The first `count` pictures of a split, as they are scored: image, label, prediction.

        Args:
            variables: on the host; this runs on the default device of one process.
        """
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        source, data = self.source(split), self.experiment.data
        for batch in self.eval_batches(split):
            predictions, labels = (np.asarray(x) for x in self._predict(variables, batch))
            for row in np.flatnonzero(batch["weight"]):
                image = source[len(found)]["image"]
                if data.size is not None and data.score_at == "input":
                    image = resize_image(image, data.size)
                # What unpadded convolutions do not reach is not scored.
                image = centre_crop(image[None], labels[row].shape)[0]
                found.append((image, labels[row], predictions[row]))
                if len(found) == count:
                    return found
        return found

    @functools.cached_property
    def _predict(self):
        model, task = self.experiment.model, self.task
        return jax.jit(
            lambda variables, batch: task.predict(
                model.apply(variables, *task.inputs(batch)), batch
            )
        )
