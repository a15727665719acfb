"""What training asks of a task: segmentation, embedding, or one of your own.

An experiment's `task` is a dataclass of numbers with `open(data, split) -> source` and
`bind(info, train) -> Task`; bound to a data set it is the object below.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Batch = Mapping[str, jax.Array]


class Task:
    """Pure functions of arrays for the step, and what the host does with their results.

    A subclass has all of those below; what returns None or {} here, and `mines`, may stay.
    """

    headline: str  # The score that decides which checkpoint is best; larger is better.
    use: str  # What to type next, after "python -m zoo", with {workdir}.
    # The loss compares rows with one another: it is given those of all devices, and as a third
    # argument `anchors`, the places of this device's own among them.
    mines: bool = False
    renew_every: int = 0  # Steps after which `mine` chooses the training rows anew; 0 is never.
    reads: tuple[str, ...] = ()  # Splits that scoring reads, beside the one that is scored.
    sums: Callable | None = None  # (outputs, batch) -> sums, where an evaluation adds such up.

    def check_model(self, model: Any) -> None:
        """Raises ValueError where a model does not fit the task or the data."""

    def check(self, run) -> None:
        """Raises ValueError for what else would stop a run (`zoo.train.run`) on its way."""

    def initial_loss(self) -> float | None:
        """The loss of a network that knows nothing, where theory tells it."""

    def train_batches(self, source: Sequence, data, preprocess, **where) -> Sequence:
        """Item n is this process's share of the batch of step n.

        Among `where`: the seed, the process, and what `mine` gave, as `mined`.
        """

    def eval_batches(self, source: Sequence, data, preprocess, **where) -> Iterator:
        """A split once, in order; rows that only fill a batch have "weight" 0."""

    def inputs(self, batch: Batch) -> tuple[jax.Array, ...]:
        """What the model is called with in training."""

    def loss(self, outputs: Any, batch: Batch, anchors: jax.Array | None = None):
        """Values and weights, to be summed over the devices and divided once."""

    def monitor(self, outputs: Any, batch: Batch, weights: jax.Array, anchors, across) -> dict:
        """Sums over this device's rows, of which `metrics` makes more numbers to log.

        `across` adds up a tree of arrays over the devices, for sums that need others first.
        """
        return {}

    def metrics(self, sums: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Numbers [] by name, from the sums over all devices."""
        return {}

    def warning(self, metrics: Mapping[str, float]) -> str | None:
        """What is wrong with a training that logs such numbers, and what helps; None if nothing."""

    def mine(self, run, variables, seed: Sequence[int]) -> dict[str, np.ndarray]:
        """The training rows until the next renewal, of the network as it is now."""

    def rows(self, outputs: Any, batch: Batch) -> dict[str, jax.Array]:
        """Arrays [b, ...] of which the host makes more sums, by `row_sums`."""
        return {}

    def row_sums(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {}

    def results(self, run, variables, split: str) -> Any:
        """All that `scores` and a report need to know of a split."""

    def scores(self, results: Any) -> dict[str, Any]:
        """Numbers, or lists of one a class, by name; `headline` is one of them."""
