"""The data sets of these experiments, a file each. Importing any makes all known to TFDS by name.

Each is a `_prepared.Builder`. Once one is imported, here or in a module of your own,
`--set data.name=...`, `zoo.data.open_source` and TFDS itself find it.
"""

from experiments.datasets._builders import LabelledBuilder, SegmentationBuilder, png
from experiments.datasets.camvid import Camvid
from experiments.datasets.digit_scenes import DigitScenes
from experiments.datasets.digits8x8 import Digits8x8
from experiments.datasets.image_folder_classes import ImageFolderClasses
from experiments.datasets.image_folder_masks import ImageFolderMasks
from experiments.datasets.isbi2012_em import Isbi2012Em
from experiments.datasets.mnist_idx import MnistIdx
from experiments.datasets.omniglot_minimal import OmniglotMinimal
from experiments.datasets.orl_faces import OrlFaces

__all__ = [
    "Camvid", "DigitScenes", "Digits8x8", "ImageFolderClasses", "ImageFolderMasks", "Isbi2012Em",
    "LabelledBuilder", "MnistIdx", "OmniglotMinimal", "OrlFaces", "SegmentationBuilder", "png",
]  # fmt: skip
