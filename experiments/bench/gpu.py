"""The networks in bfloat16 and the mining on a GPU, beside PyTorch with its compiler and without.

Parameters are float32 and the computation is bfloat16: PyTorch's is autocast, channels last, with
its fastest Adam and cuDNN's choice by trial. Sizes are those that a GPU is bought for.
"""

import itertools

from experiments.bench import encoders, mining, segmentation
from experiments.bench.row import OURS, Row, Side

# Model, its fields, pictures and their side.
NETS = {
    "unet": ("UNet", {"width": 64}, (8, 256)),
    "unet_small": ("UNet", {"width": 16}, (64, 96)),
    "tiramisu56": ("FCDenseNet103", segmentation.TIRAMISU56, (4, 224)),
    "tiramisu67": ("FCDenseNet103", {"blocks": [5] * 6}, (4, 224)),
    "tiramisu103": ("FCDenseNet103", {}, (4, 224)),
    "fcn32s": ("FCN32s", {"width": 64}, (4, 224)),
    "fcn16s": ("FCN16s", {"width": 64}, (4, 224)),
    "fcn8s": ("FCN8s", {"width": 64}, (4, 224)),
    "unpool": ("MaxUnpoolNet", {"width": 64}, (4, 224)),
    "patch": ("PatchClassifier", {"window": 47, "kernels": [4, 5, 4]}, (4, 64)),
}
PEER = "pytorch_metric_learning"
SIZES = (1024, 4096)  # Rows of a batch that is mined.


def rows(*, quick: bool) -> list[Row]:
    found = []
    for (name, (model, fields, shape)), train in itertools.product(NETS.items(), (True, False)):
        fields, (batch, size) = (segmentation.QUICK[model], (1, 32)) if quick else (fields, shape)
        told = ", ".join(f"{k}={v}" for k, v in fields.items())
        what = f"{model}({told}), {batch} x {size} x {size} px"
        options = {"model": model, "fields": fields, "batch": batch, "size": size, "train": train}
        options["device"] = "cuda"
        label = f"gpu/{name}/{'train' if train else 'inference'}"
        found.append(Row(label, what, _sides(segmentation, options), images=batch))
    for name, model in encoders.NETS.items():
        batch = 2 if quick else 1024
        options = {"model": model, "batch": batch, "device": "cuda"}
        what = f"{model}(), {batch} x 28 x 28 px"
        label = f"gpu/{name}/inference"
        found.append(Row(label, what, _sides(encoders, options), images=batch))
    for loss, size in itertools.product(mining.LOSSES, (32,) if quick else SIZES):
        options = {"loss": loss, "size": size, "device": "cuda"}
        sides = {
            OURS: Side(f"{mining.__name__}:ours", options, ("jax",), gpu=True),
            "pytorch-metric-learning": Side(
                f"{mining.__name__}:theirs", options, ("torch", PEER), gpu=True
            ),
        }
        what = f"value and gradient, {size} x {mining.D}, {mining.K} a class, float32"
        found.append(Row(f"gpu/mining/{loss}/{size}", what, sides))
    return found


def _sides(module, options: dict) -> dict[str, Side]:
    sides = {OURS: Side(f"{module.__name__}:ours", options, ("jax", "flax"), gpu=True)}
    for name, compiled in (("torch.compile", True), ("PyTorch eager", False)):
        more = {**options, "compiled": compiled}
        # Each of many compilers at once would start as many processes as there are cores.
        threads = {"TORCHINDUCTOR_COMPILE_THREADS": "2"}
        side = Side(f"{module.__name__}:theirs", more, ("torch",), gpu=True, environment=threads)
        sides[name] = side
    return sides
