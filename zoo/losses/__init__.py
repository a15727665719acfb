"""Losses: each returns (values, weights), unreduced; `mean` makes them one number."""

from zoo.losses.arcface import arcface
from zoo.losses.batch import batch_all_triplet, batch_hard_triplet, batch_semi_hard_triplet
from zoo.losses.masks import negative_mask, num_triplets, positive_mask, triplet_mask
from zoo.losses.multi_similarity import multi_similarity
from zoo.losses.pairs import contrastive, pair_cross_entropy
from zoo.losses.pixel import pixel_cross_entropy
from zoo.losses.reduce import mean
from zoo.losses.supervised_contrastive import supervised_contrastive
from zoo.losses.triplet import triplet

__all__ = [
    "arcface", "batch_all_triplet", "batch_hard_triplet", "batch_semi_hard_triplet", "contrastive",
    "mean", "multi_similarity", "negative_mask", "num_triplets", "pair_cross_entropy",
    "pixel_cross_entropy", "positive_mask", "supervised_contrastive", "triplet", "triplet_mask",
]  # fmt: skip
