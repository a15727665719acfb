"""Scores: sums on the device, ratios on the host."""

from zoo.metrics.segmentation import confusion_matrix, segmentation_scores

__all__ = ["confusion_matrix", "segmentation_scores"]
