"""Models: frozen Linen dataclasses, each its own configuration."""

from zoo.models.fcn import FCN8s, FCN16s, FCN32s
from zoo.models.patch_classifier import PatchClassifier, sliding_window
from zoo.models.siamese import AlignedEncoder, ResidualEncoder, SiameseEncoder, SiameseVerifier
from zoo.models.tiramisu import FCDenseNet56, FCDenseNet67, FCDenseNet103
from zoo.models.unet import UNet
from zoo.models.unpool import MaxUnpoolNet

__all__ = [
    "AlignedEncoder", "FCDenseNet56", "FCDenseNet67", "FCDenseNet103", "FCN8s", "FCN16s", "FCN32s",
    "MaxUnpoolNet", "PatchClassifier", "ResidualEncoder", "SiameseEncoder", "SiameseVerifier",
    "UNet", "sliding_window",
]  # fmt: skip
