"""Metric learning as a task: pictures become points, near where they show the same.

Any loss of `zoo.losses` that takes embeddings and labels (of a batch of P classes x K pictures), a
pair, the verdict on a pair, or a triplet serves by its name; which it is, its arguments tell.
Triplets are mined offline, from all training pictures, every so many steps.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import zoo.losses
from zoo.data import Data, Info, LabelledSource, class_balanced_batches, make_pairs, open_labelled
from zoo.data.checks import nearest, require
from zoo.data.mining import mine_triplets_offline
from zoo.data.pairs import endless_rows
from zoo.data.tuples import Turned, picture_batches, tuple_batches
from zoo.train import fields
from zoo.train.embedded import WAYS, Embedded, euclidean, one_shot_rows
from zoo.train.task import Task

TRIPLET = ("anchor", "positive", "negative")
# What the first arguments of a loss say of its rows.
KINDS = {
    ("embeddings", "labels"): "classes",
    ("x", "y", "same"): "pairs",
    ("logits", "same"): "verdicts",
    TRIPLET: "triplets",
}
GIVEN = ("valid", "anchors")  # By the task itself.
COLLAPSED = 0.5  # Of the margin: a batch of less spread is near one point.


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Trains an embedding by one loss; scored by retrieval and verification, and by one-shot runs.

    `data.batch_size` counts pictures where the loss takes labels, else pairs or triplets.
    """

    loss: str = "batch_hard_triplet"  # A name of zoo.losses.
    options: dict = dataclasses.field(default_factory=dict)  # Its keyword arguments.
    images_per_class: int = 4  # K; P is batch_size / K.
    short: Literal["repeat", "left_out"] = "repeat"  # Classes of fewer than K pictures.
    turn_classes: bool = False  # Turned and mirrored pictures are of further classes.
    mining: Literal["hard", "semi_hard", "random"] = "semi_hard"  # Of triplets, offline.
    renew_every: int = 100  # Steps between two minings.
    gallery: str | None = None  # Split to search in; None searches the split that is scored.
    # The score that chooses the best checkpoint.
    headline: Literal["recall_at_1", "map_at_r", "roc_auc", "one_shot_accuracy"] = "recall_at_1"

    def __post_init__(self):
        fields.check_types(self)
        known = [name for name in dir(zoo.losses) if _kind(name)]
        if self.loss not in known:
            problem = f"task.loss {self.loss!r} is no loss of embeddings{nearest(self.loss, known)}"
            raise ValueError(f"{problem}; there are {', '.join(known)}.")
        signature = inspect.signature(getattr(zoo.losses, self.loss))
        names = [n for n, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY]
        try:
            signature.bind(*signature.parameters.keys() - names, **self.options)
        except TypeError as error:
            taken = ", ".join(name for name in names if name not in GIVEN)
            hint = f"it takes {taken}; --set task.options={{}} clears those of another loss"
            raise ValueError(f"task.options of {self.loss}: {error}; {hint}.") from error
        require(self, "task.", ("images_per_class", "renew_every"), "at least 1", lambda v: v >= 1)

    def open(self, data: Data, split: str) -> LabelledSource:
        """A split of the data; ValueError where none of its pictures match, or all do."""
        source = open_labelled(data.name, split, **data.opening())
        counts = np.unique(source.labels, return_counts=True)[1]
        if max(counts, default=0) < 2 or len(counts) < 2:
            has = f"{len(source)} pictures of {len(counts)} classes"
            needed = "pairs of the same and of different ones are needed: choose another"
            raise ValueError(f"The split {split!r} of {data.name} has {has}, and {needed}.")
        return source

    def bind(self, info: Info, train: Sequence | None = None) -> "BoundEmbedding":
        """The task for a data set. Raises ValueError where its headline cannot be scored."""
        if self.headline == "one_shot_accuracy" and train is not None and train.drawers is None:
            problem = f"task.headline={self.headline} needs to know who drew a picture"
            raise ValueError(f"{problem}: {info.name} does not tell; take recall_at_1 or roc_auc.")
        return BoundEmbedding(self, info)


def _kind(name: str) -> str | None:
    """What the rows of a loss are, None where it is no loss of this task."""
    function = getattr(zoo.losses, name)
    if not inspect.isfunction(function):
        return None
    names = tuple(inspect.signature(function).parameters)
    return next((kind for first, kind in KINDS.items() if names[: len(first)] == first), None)


class BoundEmbedding(Task):
    """The task for one data set."""

    use = "verify {workdir} ONE_PICTURE ANOTHER"

    def __init__(self, config: Embedding, info: Info):
        self.config, self.info, self.kind = config, info, _kind(config.loss)
        self.headline, self.mines = config.headline, self.kind == "classes"
        self.reads = () if config.gallery is None else (config.gallery,)
        self.renew_every = config.renew_every if self.kind == "triplets" else 0
        self._loss = functools.partial(getattr(zoo.losses, config.loss), **config.options)
        # The training pictures with the classes they are trained by.
        self._classed = Turned if config.turn_classes else lambda source: source

    def check_model(self, model: Any) -> None:
        """Raises ValueError where the model is none of embeddings, or gives no verdict."""
        name, judges = type(model).__name__, self.kind == "verdicts"
        if hasattr(model, "num_classes"):
            raise ValueError(f"{name} gives classes, not embeddings; take SiameseEncoder.")
        if hasattr(model, "verdict") != judges:
            wanted = "a model that judges pairs, SiameseVerifier" if judges else "an encoder"
            raise ValueError(f"task.loss={self.config.loss} needs {wanted}; got {name}.")

    def check(self, run) -> None:
        """Raises ValueError for parts of too few classes, and splits that cannot be scored."""
        k, b = self.config.images_per_class, run.experiment.data.batch_size
        if self.mines and 1 < (parts := run.experiment.optimizer.accumulate) > b // (2 * k):
            what = f"cuts data.batch_size={b} into parts of less than two classes of {k} pictures"
            raise ValueError(f"optimizer.accumulate={parts} {what}; take fewer parts.")
        gallery = self.config.gallery
        for split in (run.experiment.data.validation_split, run.experiment.split):
            source, problem = run.source(split), f"Split {split!r} cannot be scored"
            if gallery and not np.isin(source.labels, run.source(gallery).labels).any():
                has = f"the gallery {gallery!r} has none of its classes"
                raise ValueError(f"{problem}: {has}; set task.gallery=none, or another.")
            if self.headline == "one_shot_accuracy" and not one_shot_rows(source).any():
                has = f"no group's drawers share {WAYS} classes, for task.headline={self.headline}"
                raise ValueError(f"{problem}: {has}; take a larger split, or recall_at_1.")

    def initial_loss(self) -> float | None:
        """log 2 for a verdict; for others no theory tells."""
        return float(np.log(2)) if self.kind == "verdicts" else None

    def train_batches(self, source, data, preprocess, *, seed, mined=None, **where):
        source = self._classed(source)
        row = self._row(source.labels, data.batch_size, seed, mined)
        return tuple_batches(source, row, data, preprocess, seed=seed, **where)

    def _row(self, labels, batch_size: int, seed: int, mined) -> Callable[[int], Sequence[int]]:
        """The function that tells which pictures a row of the training holds, by their places."""
        if self.kind == "classes":
            k = self.config.images_per_class
            if batch_size % k:
                problem = f"data.batch_size={batch_size} is not divisible by task.images_per_class="
                raise ValueError(f"{problem}{k}; {max(batch_size // k, 2) * k} is.")
            sizes = {"classes_per_batch": batch_size // k, "examples_per_class": k}
            plan = class_balanced_batches(labels, seed=seed, short=self.config.short, **sizes)
            batch = functools.lru_cache(maxsize=4)(plan.__getitem__)
            return lambda row: batch(row // batch_size)[row % batch_size, None]
        if self.kind == "triplets":
            # Before the first mining only the shapes are asked for.
            triplets = [mined[name] if mined else np.zeros(1, int) for name in TRIPLET]
            return endless_rows(lambda rng: triplets, len(triplets[0]), seed)
        return endless_rows(lambda rng: make_pairs(labels, rng)[:2], 2 * len(labels), seed)

    eval_batches = staticmethod(picture_batches)

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
        """Two halves of a pair for a model that judges; else all pictures as one batch."""
        image = batch["image"]
        if self.kind == "verdicts":
            return image[:, 0], image[:, 1]
        return (image.reshape(-1, *image.shape[2:]),)

    def loss(self, outputs: jax.Array, batch: Mapping[str, jax.Array], anchors=None):
        """Values and weights [b]; of the anchors where the loss compares all rows."""
        label, valid = batch["label"], batch["weight"] > 0
        if self.kind == "classes":
            return self._loss(outputs, label[:, 0], valid=valid, anchors=anchors)
        if self.kind == "verdicts":
            return self._loss(outputs, label[:, 0] == label[:, 1], valid=valid)
        points = outputs.reshape(*label.shape, -1).swapaxes(0, 1)
        same = [label[:, 0] == label[:, 1]] if self.kind == "pairs" else []
        return self._loss(*points, *same, valid=valid)

    def monitor(self, outputs: jax.Array, batch, weights: jax.Array, anchors, across) -> dict:
        """This device's spread of embeddings and, for batch-all, what share is active."""
        if self.kind == "verdicts":
            return {}
        own = outputs if anchors is None else outputs[anchors]
        own = jax.lax.stop_gradient(own.astype(jnp.float32))
        rows = jnp.float32(len(own))
        # Not the mean square less the squared mean, which keeps no digit of a collapsed batch.
        sums = {"rows": rows, "square": jnp.square(own - across(own.sum(0)) / across(rows)).sum()}
        if self.config.loss == "batch_all_triplet":
            labels, valid = batch["label"][:, 0], batch["weight"] > 0
            sums["active"] = weights.sum()
            sums["triplets"] = zoo.losses.num_triplets(labels, valid=valid, anchors=anchors)
        return sums

    def metrics(self, sums: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Root mean square distance from the batch's mean; the share of active triplets."""
        if not sums:
            return {}
        found = {"embedding_spread": jnp.sqrt(sums["square"] / sums["rows"])}
        if "active" in sums:
            found["active_fraction"] = sums["active"] / jnp.maximum(sums["triplets"], 1.0)
        return found

    def warning(self, metrics: Mapping[str, float]) -> str | None:
        """Of a collapse: all pictures at one point, or so near one that a triplet is stuck."""
        options, spread = self.config.options, metrics.get("embedding_spread", np.inf)
        squared = options.get("squared", self.config.loss == "triplet")
        margin, reach = options.get("margin", 0), spread ** (1 + squared)
        stuck, unit = (np.logaddexp(0, margin), 0.1) if options.get("soft") else (margin, margin)
        near = reach <= COLLAPSED * unit and metrics["loss"] >= 0.95 * stuck
        if not (near or spread <= 1e-6):
            return None
        other = "task.loss=batch_all_triplet or batch_semi_hard_triplet, "
        return (
            f"the embeddings have shrunk to a point (their spread is {spread:.2g}) and the loss is "
            f"stuck at {metrics['loss']:.3g}. What helps: another optimizer.learning_rate, more "
            f"optimizer.warmup_steps, {other * (unit > 0)}less dropout, model.normalize=true."
        )

    def mine(self, run, variables, seed: Sequence[int]) -> dict[str, np.ndarray]:
        """Triplets of the whole training split."""
        source, rng = self._classed(run.train_source), np.random.default_rng(seed)
        how = {"kind": self.config.mining, "margin": self.config.options["margin"]}
        points = run.embeddings(variables, source)
        # Of squared distances, as the loss has them.
        triplets = mine_triplets_offline(points, source.labels, rng, squared=True, **how)
        return dict(zip(TRIPLET, triplets, strict=True))

    def results(self, run, variables, split: str) -> Embedded:
        """The split, and what is searched in, as the network sees them."""
        source, gallery = run.source(split), None
        if self.config.gallery is not None:
            searched = run.source(self.config.gallery)
            gallery = (run.embeddings(variables, searched), searched)
        distance = functools.partial(pair_distances, run.experiment.model, variables)
        return Embedded(run.embeddings(variables, source), source, gallery, distance)

    def scores(self, results: Embedded) -> dict[str, Any]:
        return results.scores()


def pair_distances(model, variables, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far apart pairs of embeddings [m, d] are: Euclidean, or minus a judging model's logit."""
    if not hasattr(model, "verdict"):
        return euclidean(x, y)
    return -np.asarray(_verdict(model)(variables, x, y))


@functools.lru_cache(maxsize=8)  # What is compiled is kept with the function.
def _verdict(model) -> Callable:
    return jax.jit(functools.partial(model.apply, method="verdict"))
