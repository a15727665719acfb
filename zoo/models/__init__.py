"""Models: frozen Linen dataclasses, each its own configuration."""

from zoo.models.siamese import AlignedEncoder, ResidualEncoder, SiameseEncoder, SiameseVerifier
from zoo.models.unet import UNet
from zoo.models.unpool import MaxUnpoolNet

__all__ = [
    "AlignedEncoder", "MaxUnpoolNet", "ResidualEncoder", "SiameseEncoder", "SiameseVerifier",
    "UNet",
]  # fmt: skip
