"""Models: frozen Linen dataclasses, each its own configuration."""

from zoo.models.siamese import AlignedEncoder, ResidualEncoder, SiameseEncoder, SiameseVerifier
from zoo.models.unet import UNet

__all__ = ["AlignedEncoder", "ResidualEncoder", "SiameseEncoder", "SiameseVerifier", "UNet"]
