"""Data sets by their TFDS names, augmentation, batches, pairs and triplets."""

from zoo.data.augment import Augment
from zoo.data.balanced import class_balanced_batches
from zoo.data.config import Data
from zoo.data.info import Info
from zoo.data.labelled import LabelledSource, open_labelled
from zoo.data.mining import mine_triplets_offline
from zoo.data.pairs import make_pairs
from zoo.data.source import Source, open_source

__all__ = [
    "Augment", "Data", "Info", "LabelledSource", "Source",
    "class_balanced_batches", "make_pairs", "mine_triplets_offline", "open_labelled", "open_source",
]  # fmt: skip
