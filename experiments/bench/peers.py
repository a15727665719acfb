"""What lets a peer load that would not."""


def load_torchvision() -> None:
    """Imports torchvision, which torchmetrics and segmentation_models_pytorch need."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        declare_operators()


def declare_operators() -> None:
    """Tells torch of two operators, which nothing here calls.

    PyPI's torchvision, built for CUDA, has them in a library that does not load beside a CPU torch,
    and its import fails where it gives them a shape.
    """
    import torch

    for op in ("nms", "qnms"):
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{op}", schema)
