"""Data sets. Importing this package makes our TFDS builders known to TFDS by name."""

from zoo.data.augment import Augment
from zoo.data.balanced import class_balanced_batches
from zoo.data.camvid import Camvid
from zoo.data.config import Data
from zoo.data.digit_scenes import DigitScenes
from zoo.data.digits8x8 import Digits8x8
from zoo.data.image_folder_classes import ImageFolderClasses
from zoo.data.info import Info
from zoo.data.isbi2012_em import Isbi2012Em
from zoo.data.labelled import LabelledSource, open_labelled
from zoo.data.mining import mine_triplets_offline
from zoo.data.mnist_idx import MnistIdx
from zoo.data.omniglot_minimal import OmniglotMinimal
from zoo.data.orl_faces import OrlFaces
from zoo.data.pairs import make_pairs
from zoo.data.source import Source, open_source

__all__ = [
    "Augment", "Camvid", "Data", "DigitScenes", "Digits8x8", "ImageFolderClasses", "Info",
    "Isbi2012Em", "LabelledSource", "MnistIdx", "OmniglotMinimal", "OrlFaces", "Source",
    "class_balanced_batches", "make_pairs", "mine_triplets_offline", "open_labelled", "open_source",
]  # fmt: skip
