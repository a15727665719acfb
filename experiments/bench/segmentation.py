"""Training step and inference of every segmentation model beside the same network in PyTorch.

Cross-entropy over 11 classes and Adam on both sides, dropout too; the data stay where the device
is. Ours is the launcher's own step, which donates its state.
"""

import itertools
import os

from experiments.bench.row import OURS, Case, Row, Side, jax_facts

CLASSES = 11
TIRAMISU56 = {"growth_rate": 12, "blocks": [4] * 6}
# Model, its fields, pictures and their side; and what stands for them where it must be quick.
NETS = {
    "unet": ("UNet", {"width": 64}, (1, 256)),
    "unet_small": ("UNet", {"width": 16}, (8, 96)),
    "tiramisu56": ("FCDenseNet103", TIRAMISU56, (1, 224)),
    "tiramisu67": ("FCDenseNet103", {"blocks": [5] * 6}, (1, 224)),
    "tiramisu103": ("FCDenseNet103", {}, (1, 224)),
    "fcn32s": ("FCN32s", {"width": 16}, (2, 224)),
    "fcn16s": ("FCN16s", {"width": 16}, (2, 224)),
    "fcn8s": ("FCN8s", {"width": 16}, (2, 224)),
    "unpool": ("MaxUnpoolNet", {"width": 16}, (4, 96)),
    "patch": ("PatchClassifier", {"window": 47, "kernels": [4, 5, 4]}, (1, 64)),
}
QUICK = {
    "UNet": {"width": 2, "depth": 2},
    "FCDenseNet103": {"growth_rate": 2, "blocks": [1, 2], "features": 4},
    "FCN32s": {"width": 1},
    "FCN16s": {"width": 1},
    "FCN8s": {"width": 1},
    "MaxUnpoolNet": {"width": 2, "blocks": [1, 1]},
    "PatchClassifier": {"window": 10, "kernels": [3, 3], "width": 2, "hidden": 3},
}


def rows(*, quick: bool) -> list[Row]:
    """Of each network in training and inference; PyTorch's compiler, which takes minutes, apart."""
    found = []
    for name, (model, fields, shape) in NETS.items():
        fields, (batch, size) = (QUICK[model], (1, 32)) if quick else (fields, shape)
        told = ", ".join(f"{k}={v}" for k, v in fields.items())
        what = f"{model}({told}), {batch} x {size} x {size} px"
        for kind, compiled in itertools.product(("train", "inference"), (False, True)):
            options = {"model": model, "fields": fields, "batch": batch, "size": size}
            options["train"] = kind == "train"
            more, tool = {**options, "compiled": compiled}, "g++" if compiled else None
            sides = {
                OURS: Side(f"{__name__}:ours", options, ("jax", "flax")),
                "torch.compile" if compiled else "PyTorch eager": Side(
                    f"{__name__}:theirs", more, ("torch",), tool=tool
                ),
            }
            label = f"{name}/{kind}{'_compiled' if compiled else ''}"
            found.append(Row(label, what, sides, images=batch))
    return found


def pictures(batch: int, size: int):
    """Noise [b, h, w, 3] float32 and classes [b, h, w] int32."""
    import numpy as np

    rng = np.random.default_rng(0)
    shape = (batch, size, size)
    image = rng.normal(size=(*shape, 3)).astype(np.float32)
    return image, rng.integers(0, CLASSES, shape).astype(np.int32)


def ours(*, model: str, fields: dict, batch: int, size: int, train: bool) -> Case:
    import jax
    import numpy as np
    import optax

    from zoo import models
    from zoo.data.info import Info
    from zoo.train import fields as tree
    from zoo.train import state
    from zoo.train.parallel import AXIS, Layout
    from zoo.train.segmentation import BoundSegmentation
    from zoo.train.step import make_train_step

    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    net = getattr(models, model)(num_classes=CLASSES, **fields)
    image, label = pictures(batch, size)
    tx, layout = optax.adam(1e-3), Layout()
    held = layout.put(state.create(net, (image[:1],), tx, seed=0, ema=False))
    if not train:
        variables, image = held.variables(), layout.put(image)
        run = jax.jit(net.apply).lower(variables, image).compile()

        def inference() -> None:
            jax.block_until_ready(run(variables, image))

        return Case(inference, jax_facts(run))

    task = BoundSegmentation(Info("noise", CLASSES, tuple(map(str, range(CLASSES)))))
    step = make_train_step(tree.set_everywhere(net, "axis_name", AXIS), task, tx)
    weight = np.ones(batch, np.float32)
    rows = layout.split({"image": image, "label": label, "weight": weight})
    run = layout.map(step, donate=True).lower(held, rows).compile()

    def call() -> None:
        nonlocal held
        held, _ = jax.block_until_ready(run(held, rows))

    return Case(call, jax_facts(run))


def theirs(*, model: str, fields: dict, batch: int, size: int, train: bool, compiled: bool) -> Case:
    import torch

    from experiments.bench import torch_models

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    net = getattr(torch_models, model)(CLASSES, **fields).train(train)
    image, label = map(torch.from_numpy, pictures(batch, size))
    image, label = image.permute(0, 3, 1, 2).contiguous(), label.long()
    run = torch.compile(net) if compiled else net
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(run(image), label).backward()
        optimizer.step()

    def inference() -> None:
        with torch.inference_mode():
            run(image)

    return Case(step if train else inference)
