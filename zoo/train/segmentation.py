"""Semantic segmentation as a task: what the step minimises and what evaluation adds up."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import zoo.losses
from zoo.data import Data, Info, Source, open_source
from zoo.data.batches import eval_batches, train_batches
from zoo.data.checks import nearest, require
from zoo.data.class_weights import class_counts, median_frequency
from zoo.losses import focal, pixel_cross_entropy
from zoo.metrics import boundary_scores, confusion_matrix, membrane_scores, segmentation_scores
from zoo.ops import centre_crop, resize_logits
from zoo.train import fields
from zoo.train.task import Task

_PIXELS = ["logits", "labels"]  # What losses of pixels take first.


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Pixel-wise softmax cross-entropy, or another loss, scored by intersection over union.

    Evaluation scores every pixel of the label (of a network with VALID padding those it predicts):
    logits of a resized picture are resized back first. Its `loss` is the plain cross-entropy.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0  # Above 0 it is `focal`, which smooths no labels.
    # Added, times `region_weight`: each image's loss, weighing what its pixels do.
    region: str = "none"  # Or a name of zoo.losses, such as "dice" or "lovasz_softmax".
    region_weight: float = 1.0
    # "median_frequency" is counted on the training split.
    class_weights: Literal["none", "median_frequency"] = "none"
    class_weight_power: float = 1.0  # Weights are raised to it; 0.5 is gentler.
    boundary_tolerance: float | None = None  # Of `boundary_scores`, often 0.0075; None: no scores.
    membrane: int | None = None  # The class, for `membrane_scores`; None: no scores.

    def __post_init__(self):
        fields.check_types(self)
        require(self, "task.", ("label_smoothing",), "in [0, 1)", lambda v: 0 <= v < 1)
        require(self, "task.", ("focal_gamma", "region_weight"), "at least 0", lambda v: v >= 0)
        if self.focal_gamma and self.label_smoothing:
            raise ValueError("task.label_smoothing is not for focal_gamma > 0: set one to 0.")
        if self.region not in (known := ["none", *filter(_of_pixels, dir(zoo.losses))]):
            problem = f"task.region {self.region!r} is no loss of pixels"
            raise ValueError(f"{problem}{nearest(self.region, known)}; take {', '.join(known)}.")
        require(self, "task.", ("boundary_tolerance",), "> 0", lambda v: v is None or v > 0)

    def open(self, data: Data, split: str) -> Source:
        return open_source(data.name, split, label_offset=data.label_offset, **data.opening())

    def bind(self, info: Info, train: Sequence | None = None) -> "BoundSegmentation":
        """The task for a data set; the training split is read where weights are counted."""
        if self.membrane is not None and self.membrane not in range(info.num_classes):
            raise ValueError(f"task.membrane={self.membrane} is none of 0..{info.num_classes - 1}.")
        weights = None
        if self.class_weights == "median_frequency" and train is not None:
            weights = median_frequency(class_counts(train), power=self.class_weight_power)
        return BoundSegmentation(info, weights, self)


def _of_pixels(name: str) -> bool:
    """Whether a name of zoo.losses is a loss of pixels, or of regions: no sums, of one array."""
    if not inspect.isfunction(loss := getattr(zoo.losses, name)):
        return False
    signature = inspect.signature(loss)
    return [*signature.parameters][:2] == _PIXELS and signature.return_annotation is not jax.Array


@dataclasses.dataclass(frozen=True)
class BoundSegmentation(Task):
    """The task for one data set."""

    info: Info
    class_weights: np.ndarray | None = None  # [k] float.
    config: Segmentation = Segmentation()

    headline = "mean_iou"
    use = "predict {workdir} IMAGE... --out predictions"

    def check_model(self, model: Any) -> None:
        """Raises ValueError where a model's classes are not the data's."""
        if model.num_classes != self.info.num_classes:
            k, problem = self.info.num_classes, f"model.num_classes is {model.num_classes} but"
            hint = f"--set model.num_classes={k}"
            raise ValueError(f"{problem} {self.info.name} has {k} classes; {hint}.")

    def initial_loss(self) -> float | None:
        """What a network that knows nothing scores: log k, times focal's factor; regions differ."""
        k = self.info.num_classes
        known = float(np.log(k) * (1 - 1 / k) ** self.config.focal_gamma)
        return known if self.config.region == "none" else None

    train_batches = staticmethod(train_batches)
    eval_batches = staticmethod(eval_batches)

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array]:
        return (batch["image"],)

    def _labels(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Labels with the rows that only fill a batch made void."""
        fill = batch["weight"][:, None, None] == 0
        return jnp.where(fill, self.info.ignore_label, batch["label"])

    def loss(self, outputs: jax.Array | tuple, batch: Mapping[str, jax.Array], anchors=None):
        """Values and weights [b, h', w']; each of several logits counts half of the one before."""
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        size, config, void = outputs[0].shape[1:3], self.config, self.info.ignore_label
        if config.focal_gamma:
            pixel = functools.partial(focal, gamma=config.focal_gamma)
        else:
            pixel = functools.partial(pixel_cross_entropy, label_smoothing=config.label_smoothing)
        labels, total = centre_crop(self._labels(batch), size), 0.0
        norm = 2 - 0.5 ** (len(outputs) - 1)  # 1 + 1/2 + 1/4 ...
        for level, logits in enumerate(outputs):
            weighted = functools.partial(pixel, logits, labels, ignore_label=void)
            values, weights = weighted(class_weights=self.class_weights)
            if "border" in batch:  # A pixel weighs its class's weight plus its border's.
                border, (plain, ones) = centre_crop(batch["border"], size), weighted()
                values, weights = values + border * plain, weights + border * ones
            if config.region != "none":
                lost = getattr(zoo.losses, config.region)(logits, labels, ignore_label=void)
                lost, counts = (x.reshape(len(labels), 1, 1, -1).sum(axis=-1) for x in lost)
                values += config.region_weight * lost / jnp.maximum(counts, 1) * weights
            total += 0.5**level / norm * values
        return total, weights  # Of every level the same.

    def as_scored(self, logits: jax.Array, batch: Mapping[str, jax.Array]):
        """Logits and labels of the labels' size, or of the centre that VALID padding leaves."""
        labels, size = self._labels(batch), batch["image"].shape[1:3]
        if logits.shape[1:3] == size:
            return resize_logits(logits, labels.shape[1:3]), labels
        if labels.shape[1:3] != size:
            problem = f"A model whose logits {logits.shape[1:3]} are smaller than its image {size}"
            but = f"is scored at the image's size, but the labels are {labels.shape[1:3]}"
            raise ValueError(f"{problem} {but}; --set data.score_at=input.")
        return logits, centre_crop(labels, logits.shape[1:3])

    def sums(self, logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Confusion counts [k, k] int32, and the loss and its weight, summed over the batch."""
        logits, labels = self.as_scored(logits, batch)
        k, ignore = self.info.num_classes, self.info.ignore_label
        values, weights = pixel_cross_entropy(logits, labels, ignore_label=ignore)
        counts = confusion_matrix(jnp.argmax(logits, axis=-1), labels, k, ignore)
        return {"confusion": counts, "loss": values.sum(), "weight": weights.sum()}

    def rows(self, logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Predictions and labels, [b, 2, h', w'] int32, where `row_sums` scores pictures."""
        if self.config.boundary_tolerance is None and self.config.membrane is None:
            return {}
        logits, labels = self.as_scored(logits, batch)
        return {"pictures": jnp.stack([jnp.argmax(logits, axis=-1), labels], axis=1)}

    def row_sums(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Each score's sum over the pictures in which it is not nan, and their number: [2, ...]."""
        k, ignore, sums = self.info.num_classes, self.info.ignore_label, {}
        tolerance, membrane = self.config.boundary_tolerance, self.config.membrane
        for pair in rows.get("pictures", ()):
            found = {} if tolerance is None else boundary_scores(*pair, k, ignore, tolerance)
            found |= {} if membrane is None else membrane_scores(*pair, membrane, ignore)
            for name, x in found.items():
                sums[name] = sums.get(name, 0.0) + np.stack([np.nan_to_num(x), ~np.isnan(x)])
        return sums

    def results(self, run, variables, split: str) -> dict[str, np.ndarray]:
        return run.sums(variables, split)

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores from sums over a whole split, in float64."""
        weight = float(sums["weight"])
        loss = float(sums["loss"]) / weight if weight else 0.0
        others = {n: x for n, x in sums.items() if n not in ("confusion", "loss", "weight")}
        means = {n: (x[0] / np.where(x[1], x[1], np.nan)).tolist() for n, x in others.items()}
        return {"loss": loss, **segmentation_scores(sums["confusion"]), **means}
