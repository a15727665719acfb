"""Models: frozen Linen dataclasses, each its own configuration."""

from zoo.models.unet import UNet

__all__ = ["UNet"]
