"""Losses: each returns (values, weights), unreduced; `mean` makes them one number."""

from zoo.losses.pixel import pixel_cross_entropy
from zoo.losses.reduce import mean

__all__ = ["mean", "pixel_cross_entropy"]
