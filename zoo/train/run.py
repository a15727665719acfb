"""What an experiment becomes: data, task, model, optimizer and the programs mapped on devices."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from zoo.data.batches import iterate
from zoo.data.images import Preprocess
from zoo.train import fields, optimizer, state
from zoo.train.config import Experiment
from zoo.train.parallel import AXIS, Layout, to_host
from zoo.train.step import make_embed_step, make_eval_step, make_train_step


class Run:
    """One experiment on one layout of devices.

    Unless it `trains`, the training split is not read for class weights. Raises ValueError where
    the data cannot be opened, the model does not fit them, or the batch does not divide by the
    devices.
    """

    def __init__(self, experiment: Experiment, layout: Layout, *, trains: bool = True):
        layout.check_batch(experiment.data.batch_size, experiment.optimizer.accumulate)
        self.experiment = experiment
        self.layout = layout
        self._sources: dict[str, Sequence] = {}
        self.train_source = self.source(experiment.data.train_split)
        self.info = self.train_source.info
        self.task = experiment.task.bind(self.info, self.train_source if trains else None)
        self.task.check_model(experiment.model)
        self.preprocess = Preprocess(
            self.info.channels, self.info.mean, self.info.std, experiment.data.size
        )
        self.model: nn.Module = fields.set_everywhere(experiment.model, "axis_name", AXIS)
        self.learning_rate = optimizer.schedule(experiment.optimizer, experiment.steps)
        self.tx = optimizer.optimizer(experiment.optimizer, self.learning_rate)

    def source(self, split: str) -> Sequence:
        """A split of the data, opened once."""
        if split not in self._sources:
            self._sources[split] = self.experiment.task.open(self.experiment.data, split)
        return self._sources[split]

    def train_items(self, mined: Mapping[str, np.ndarray] | None = None):
        """The training batches of this process: item n is the batch of step n."""
        data, seed = self.experiment.data, self.experiment.seed
        options = {**self._process(), **({} if mined is None else {"mined": mined})}
        return self.task.train_batches(
            self.train_source, data, self.preprocess, seed=seed, **options
        )

    def batches(
        self, start: int, mined: Mapping[str, np.ndarray] | None = None
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """The training batches of this process from a step on."""
        return iterate(self.train_items(mined), start, self.experiment.data.threads)

    def eval_batches(self, source: Sequence, **process: int) -> Iterator[Mapping[str, np.ndarray]]:
        """A split once, in order, all rows unless told which process; rows that fill weigh 0."""
        data = self.experiment.data
        return self.task.eval_batches(
            source, data, self.preprocess, batch_size=data.batch_size, **process
        )

    def blank_inputs(self) -> tuple[np.ndarray, ...]:
        """What the model is called with, one example of zeros."""
        inputs = self.task.inputs(self.train_items()[0])
        return jax.tree.map(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), inputs)

    def initial_state(self) -> state.TrainState:
        """The state before the first step, on the default device."""
        config, inputs = self.experiment, self.blank_inputs()
        # The model without its axis: this runs unmapped.
        return state.create(
            config.model, inputs, self.tx, seed=config.seed, ema=config.optimizer.ema > 0
        )

    @functools.cached_property
    def train_step(self):
        """The mapped step; it takes the memory of the state it is given."""
        seed, rule = self.experiment.seed, self.experiment.optimizer
        options = {"seed": seed, "ema_decay": rule.ema, "accumulate": rule.accumulate}
        step = make_train_step(self.model, self.task, self.tx, **options)
        return self.layout.map(step, donate=True)

    @functools.cached_property
    def _eval_step(self):
        return self.layout.map(make_eval_step(self.model, self.task))

    @functools.cached_property
    def _embed_step(self):
        return self.layout.map(make_embed_step(self.model))

    def _process(self) -> dict[str, int]:
        return {"process_index": jax.process_index(), "process_count": jax.process_count()}

    def _shares(self, source: Sequence) -> Iterator[dict[str, Any]]:
        """The evaluation batches of a split on the devices."""
        return map(self.layout.split, self.eval_batches(source, **self._process()))

    def sums(self, variables: Mapping[str, Any], split: str) -> dict[str, np.ndarray]:
        """The task's sums over a whole split: int64 and float64, every example once.

        The variables lie on the devices, as `layout.put` leaves them or a state holds them.
        """
        totals: dict[str, np.ndarray] = {}
        for batch in self._shares(self.source(split)):
            for name, part in to_host(self._eval_step(variables, batch)).items():
                wide = part.astype(np.int64 if part.dtype.kind in "iu" else np.float64)
                totals[name] = totals[name] + wide if name in totals else wide
        return totals

    def embeddings(self, variables: Mapping[str, Any], source: Sequence) -> np.ndarray:
        """The model's embedding of every picture in order: [n, d] float32; variables as `sums`."""
        found = []
        for batch in self._shares(source):
            embeddings, weights = to_host(self._embed_step(variables, batch))
            found.append(embeddings[weights > 0])
        return np.concatenate(found)
