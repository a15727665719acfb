"""What an experiment becomes: data, task, model, optimizer and the programs mapped on devices."""

import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError

from zoo.data.batches import iterate
from zoo.data.checks import explained
from zoo.data.images import Preprocess, write_atomically
from zoo.train import fields, optimizer, state
from zoo.train.config import Experiment
from zoo.train.parallel import Layout, host, to_host
from zoo.train.step import apply_loss, make_embed_step, make_eval_step, make_train_step

Rows = Mapping[str, np.ndarray]  # A batch of this process, on the host; or what a task mined.


class Run:
    """One experiment on one layout of devices.

    Unless it `trains`, the training split is not read for class weights. ValueError for data that
    cannot be opened, a model that does not fit them, a batch that does not divide by the devices.
    """

    def __init__(self, experiment: Experiment, layout: Layout, *, trains: bool = True):
        layout.check_batch(experiment.data.batch_size, experiment.optimizer.accumulate)
        self.experiment, self.layout = experiment, layout
        # A split of the data by its name, opened once.
        self.source = functools.cache(functools.partial(experiment.task.open, experiment.data))
        self.train_source = self.source(experiment.data.train_split)
        self.info = experiment.data.normalised(self.train_source.info)
        self.task = experiment.task.bind(self.info, self.train_source if trains else None)
        self.task.check_model(experiment.model)
        info, rule, seed = self.info, experiment.optimizer, experiment.seed
        self.preprocess = Preprocess(info.channels, info.mean, info.std, experiment.data.size)
        self.learning_rate = optimizer.schedule(rule, experiment.steps)
        self.tx = optimizer.optimizer(rule, self.learning_rate)
        if not (shared := experiment.sync_batch_norm) and layout.axis is None:
            raise ValueError("sync_batch_norm=False needs --parallel jit or pmap; got fsdp.")
        axis = layout.axis if shared else None
        model: nn.Module = fields.set_everywhere(experiment.model, "axis_name", axis)
        options = {"seed": seed, "ema_decay": rule.ema, "accumulate": rule.accumulate}
        self.step = make_train_step(model, self.task, self.tx, **options)
        # It takes the memory of the state it is given.
        self.train_step = layout.map(self.step, donate=True)
        self._eval_step = layout.map(make_eval_step(model, self.task))
        self._embed_step = layout.map(make_embed_step(model))
        self._where = {"process_index": jax.process_index(), "process_count": jax.process_count()}

    def train_items(self, mined: Rows | None = None) -> Sequence[Rows]:
        """The training batches of this process: item n is the batch of step n."""
        data, options = self.experiment.data, {"seed": self.experiment.seed, **self._where}
        if mined is not None:
            options["mined"] = mined
        return self.task.train_batches(self.train_source, data, self.preprocess, **options)

    def mined(self, workdir: pathlib.Path, step: int, variables: Mapping[str, Any]) -> Rows | None:
        """What the task mined at the last renewal before or at `step`, the steps taken so far.

        A checkpoint holds no rows: those of a renewal are chosen by the network as it then is, and
        kept in `mined/STEP.npz` of the workdir for a run that goes on before the next one. Every
        process mines the same; of many, each writes the same file. Raises ValueError where the file
        of a renewal that has passed is missing or damaged.
        """
        if not self.task.renew_every:
            return None
        renewal = step - step % self.task.renew_every
        path = workdir / "mined" / f"{renewal:08d}.npz"
        if renewal == step:
            rows = self.task.mine(self, variables, seed=(self.experiment.seed, step))
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, lambda file: np.savez_compressed(file, **rows))
            return rows
        problem = f"{path}, the training rows mined at step {renewal}, cannot be read"
        hint = "the run cannot go on as it was: restore the file, or start in another --workdir"
        with explained(problem, hint, (OSError, ValueError, EOFError)), np.load(path) as file:
            return dict(file)

    def batches(self, start: int, mined: Rows | None = None) -> Iterator[Rows]:
        """The training batches of this process from a step on."""
        return iterate(self.train_items(mined), start, self.experiment.data.threads)

    def chunks(self, start: int, mined: Rows | None = None) -> Iterator[tuple[int, Callable]]:
        """The training from a step on: the step that comes next, and what takes the state there.

        That is `advance(state) -> state, metrics`. It takes one step, or all up to that one; then
        the metrics are not [] but [n], and may be longer.
        """
        for step, batch in enumerate(self.batches(start, mined), start + 1):
            yield step, lambda state, b=batch: self.train_step(state, self.split(b))

    def split(self, batch: Rows) -> dict[str, Any]:
        """A training batch of this process on its devices."""
        return self.layout.split(batch, self.experiment.optimizer.accumulate)

    def eval_batches(self, source: Sequence, **process: int) -> Iterator[Rows]:
        """A split once, in order, all rows unless told which process; rows that fill weigh 0."""
        data, size = self.experiment.data, self.experiment.data.batch_size
        return self.task.eval_batches(source, data, self.preprocess, batch_size=size, **process)

    def blank_inputs(self) -> tuple[np.ndarray, ...]:
        """What the model is called with, one example of zeros."""
        inputs = self.task.inputs(self.train_items()[0])
        return jax.tree.map(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), inputs)

    def initial_state(self) -> state.TrainState:
        """The state before the first step, on the host's CPU: it may be too large for a device."""
        config, inputs = self.experiment, self.blank_inputs()
        # The model without its axis: this runs unmapped.
        how = {"seed": config.seed, "ema": config.optimizer.ema > 0}
        with jax.default_device(host()):
            return state.create(config.model, inputs, self.tx, **how)

    def check(self, variables: Mapping[str, Any]) -> None:
        """Raises ValueError where training or evaluation would stop at its first batch."""
        model, task, data = self.experiment.model, self.task, self.experiment.data
        task.check(self)

        def loss(variables, batch):
            return apply_loss(task, model.apply(variables, *task.inputs(batch)), batch)

        with explained("The loss cannot be computed", "mend the fields of task", TypeError):
            jax.eval_shape(loss, variables, self.train_items()[0])
        program = make_embed_step(model) if task.sums is None else make_eval_step(model, task)
        for split in dict.fromkeys((data.validation_split, self.experiment.split, *task.reads)):
            source, problem = self.source(split), f"Split {split!r} cannot be scored"
            with explained(problem, "see data.size and data.score_at", (ValueError, FlaxError)):
                jax.eval_shape(program, variables, next(self.eval_batches(source)))

    def _results(self, program: Callable, variables: Any, source: Sequence) -> Iterator[Any]:
        """What a program gives for each evaluation batch, on the host; the next is under way."""
        shares = map(self.layout.split, self.eval_batches(source, **self._where))
        given = (program(variables, share) for share in shares)
        return (to_host(one) for one, _ in itertools.pairwise(itertools.chain(given, [None])))

    def sums(self, variables: Mapping[str, Any], split: str) -> dict[str, np.ndarray]:
        """The task's sums over a whole split: int64 and float64, every example once.

        The variables lie on the devices, as `layout.put` leaves them or a state holds them.
        """
        totals: dict[str, np.ndarray] = {}
        for sums, rows in self._results(self._eval_step, variables, self.source(split)):
            for name, part in {**sums, **self.task.row_sums(rows)}.items():
                wide = part.astype(np.int64 if part.dtype.kind in "iu" else np.float64)
                totals[name] = totals[name] + wide if name in totals else wide
        return totals

    def embeddings(self, variables: Mapping[str, Any], source: Sequence) -> np.ndarray:
        """The model's embedding of every picture in order: [n, d] float32; variables as `sums`."""
        parts = self._results(self._embed_step, variables, source)
        return np.concatenate([embeddings[weights > 0] for embeddings, weights in parts])
