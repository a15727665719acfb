"""Semantic segmentation as a task: what the step minimises and what evaluation adds up."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.class_weights import class_counts, median_frequency
from zoo.data.info import Info
from zoo.losses import pixel_cross_entropy
from zoo.metrics import confusion_matrix, segmentation_scores
from zoo.ops.crop import centre_crop
from zoo.ops.resize import resize_logits
from zoo.train import figures

Example = tuple[np.ndarray, np.ndarray, np.ndarray]  # Image uint8, label, prediction.

CLASS_WEIGHTS = ("none", "median_frequency")


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Pixel-wise softmax cross-entropy, scored by intersection over union.

    Evaluation scores every pixel of the label: logits of a resized picture are resized back
    first. Its `loss` is the plain cross-entropy, without class weights or smoothing.
    """

    label_smoothing: float = 0.0
    class_weights: str = "none"  # Or "median_frequency", counted on the training split.
    class_weight_power: float = 1.0  # Weights are raised to it; 0.5 is gentler.

    def __post_init__(self):
        if self.class_weights not in CLASS_WEIGHTS:
            raise ValueError(
                f"task.class_weights must be one of {', '.join(CLASS_WEIGHTS)}; "
                f"got {self.class_weights!r}."
            )
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"task.label_smoothing must be in [0, 1); got {self.label_smoothing}.")

    def bind(self, info: Info, train: Sequence | None = None) -> "BoundSegmentation":
        """The task for a data set; the training split is read where weights are counted."""
        weights = None
        if self.class_weights == "median_frequency" and train is not None:
            weights = median_frequency(class_counts(train), power=self.class_weight_power)
        return BoundSegmentation(info, weights, self.label_smoothing)


@dataclasses.dataclass(frozen=True)
class BoundSegmentation:
    """Pure functions of arrays, for one data set."""

    info: Info
    class_weights: np.ndarray | None = None  # [k] float.
    label_smoothing: float = 0.0

    headline = "mean_iou"

    def check_model(self, model: Any) -> None:
        """Raises ValueError where a model's classes are not the data's."""
        if model.num_classes != self.info.num_classes:
            raise ValueError(
                f"model.num_classes is {model.num_classes} but {self.info.name} has "
                f"{self.info.num_classes} classes; --set model.num_classes={self.info.num_classes}."
            )

    def initial_loss(self) -> float:
        """What a network that knows nothing scores: log k."""
        return float(np.log(self.info.num_classes))

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array]:
        """What the model is called with."""
        return (batch["image"],)

    def _labels(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Labels with the rows that only fill a batch made void."""
        fill = batch["weight"][:, None, None] == 0
        return jnp.where(fill, self.info.ignore_label, batch["label"])

    def loss(self, logits: jax.Array, batch: Mapping[str, jax.Array]):
        """Values and weights [b, h', w'] over the pixels that the logits cover."""
        labels = centre_crop(self._labels(batch), logits.shape[1:3])
        return pixel_cross_entropy(
            logits,
            labels,
            ignore_label=self.info.ignore_label,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
        )

    def _full(self, logits: jax.Array, batch: Mapping[str, jax.Array]):
        """Logits and labels of one size, the labels' own.

        Logits smaller than their picture (VALID padding) cover its centre and are scored there.
        """
        labels, size = self._labels(batch), batch["image"].shape[1:3]
        if logits.shape[1:3] == size:
            return resize_logits(logits, labels.shape[1:3]), labels
        if labels.shape[1:3] != size:
            raise ValueError(
                f"A model whose logits {logits.shape[1:3]} are smaller than its image {size} is "
                f"scored at the image's size, but the labels are {labels.shape[1:3]}; "
                f"--set data.score_at=input."
            )
        return logits, centre_crop(labels, logits.shape[1:3])

    def sums(self, logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Confusion counts [k, k] int32, and the loss and its weight, summed over the batch."""
        logits, labels = self._full(logits, batch)
        ignore = self.info.ignore_label
        values, weights = pixel_cross_entropy(logits, labels, ignore_label=ignore)
        predictions = jnp.argmax(logits, axis=-1)
        return {
            "confusion": confusion_matrix(predictions, labels, self.info.num_classes, ignore),
            "loss": values.sum(),
            "weight": weights.sum(),
        }

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores from sums over a whole split, in float64."""
        weight = float(sums["weight"])
        loss = float(sums["loss"]) / weight if weight else 0.0
        return {"loss": loss, **segmentation_scores(sums["confusion"])}

    def predict(self, logits: jax.Array, batch: Mapping[str, jax.Array]):
        """Class ids and labels [b, h, w], for pictures in a report."""
        logits, labels = self._full(logits, batch)
        return jnp.argmax(logits, axis=-1), labels

    def draw(
        self,
        folder: pathlib.Path,
        records: Sequence[Mapping[str, Any]],
        sums: Mapping[str, np.ndarray],
        examples: Sequence[Example],
    ) -> None:
        """Writes curves.png, confusion.png and examples.png into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        figures.curves(records, folder / "curves.png", score=self.headline)
        figures.confusion(sums["confusion"], self.info.class_names, folder / "confusion.png")
        figures.grid(*zip(*examples, strict=True), self.info, folder / "examples.png")

    def overlay(self, examples: Sequence[Example]) -> np.ndarray:
        """One RGB picture of examples, for TensorBoard."""
        return figures.overlays(*zip(*examples, strict=True), self.info)
