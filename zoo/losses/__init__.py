"""Losses: each returns (values, weights), unreduced; `mean` makes them one number."""

from zoo.losses.arcface import arcface
from zoo.losses.batch import batch_all_triplet, batch_hard_triplet, batch_semi_hard_triplet
from zoo.losses.focal import focal
from zoo.losses.lovasz import lovasz_softmax
from zoo.losses.masks import negative_mask, num_triplets, positive_mask, triplet_mask
from zoo.losses.multi_similarity import multi_similarity
from zoo.losses.pairs import contrastive, pair_cross_entropy
from zoo.losses.pixel import pixel_cross_entropy
from zoo.losses.reduce import mean
from zoo.losses.region import dice, jaccard, overlap_loss, overlap_sums, tversky
from zoo.losses.supervised_contrastive import supervised_contrastive
from zoo.losses.triplet import triplet

__all__ = [
    "arcface", "batch_all_triplet", "batch_hard_triplet", "batch_semi_hard_triplet", "contrastive",
    "dice", "focal", "jaccard", "lovasz_softmax", "mean", "multi_similarity", "negative_mask",
    "num_triplets", "overlap_loss", "overlap_sums", "pair_cross_entropy", "pixel_cross_entropy",
    "positive_mask", "supervised_contrastive", "triplet", "triplet_mask", "tversky",
]  # fmt: skip
