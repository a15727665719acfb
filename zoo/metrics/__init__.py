"""Scores: sums on the device, ratios on the host."""

from zoo.metrics.one_shot import episodes, one_shot_accuracy, within_group_runs
from zoo.metrics.pictures import boundary_scores, membrane_scores
from zoo.metrics.retrieval import neighbours, retrieval_scores
from zoo.metrics.segmentation import confusion_matrix, segmentation_scores
from zoo.metrics.verification import lfw_protocol, verification_scores

__all__ = [
    "boundary_scores", "confusion_matrix", "episodes", "lfw_protocol", "membrane_scores",
    "neighbours", "one_shot_accuracy", "retrieval_scores", "segmentation_scores",
    "verification_scores", "within_group_runs",
]  # fmt: skip
