"""Data sets. Importing this package makes our TFDS builders known to TFDS by name."""

from zoo.data.augment import Augment
from zoo.data.camvid import Camvid
from zoo.data.config import Data
from zoo.data.digit_scenes import DigitScenes
from zoo.data.info import Info
from zoo.data.isbi2012_em import Isbi2012Em
from zoo.data.source import Source, open_source

__all__ = [
    "Augment",
    "Camvid",
    "Data",
    "DigitScenes",
    "Info",
    "Isbi2012Em",
    "Source",
    "open_source",
]
