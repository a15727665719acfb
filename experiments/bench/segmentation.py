"""Training step and inference of every segmentation model beside the same network in PyTorch.

Cross-entropy over 11 classes and Adam on both sides, dropout too; the data stay where the device
is. Ours is the launcher's own step, which donates its state.
"""

import itertools

from experiments.bench.row import OURS, Case, Row, Side, jax_facts, model_gflops, torch_on

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


def ours(
    *, model: str, fields: dict, batch: int, size: int, train: bool, device: str = "cpu"
) -> Case:
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
    dtype = "float32" if device == "cpu" else "bfloat16"
    net = getattr(models, model)(num_classes=CLASSES, dtype=dtype, **fields)
    image, label = pictures(batch, size)
    tx, layout = optax.adam(1e-3), Layout()
    held = layout.put(state.create(net, (image[:1],), tx, seed=0, ema=False))
    gflops = (3 if train else 1) * model_gflops(net.apply, held.variables(), image)
    if not train:
        variables, image = held.variables(), layout.put(image)
        run, logits = jax.jit(net.apply).lower(variables, image).compile(), None

        def inference() -> None:
            nonlocal logits
            logits = run(variables, image)

        wait = lambda: jax.block_until_ready(logits)  # noqa: E731
        return Case(inference, jax_facts(run, gflops), wait=wait)

    task = BoundSegmentation(Info("noise", CLASSES, tuple(map(str, range(CLASSES)))))
    step = make_train_step(tree.set_everywhere(net, "axis_name", AXIS), task, tx)
    weight = np.ones(batch, np.float32)
    rows = layout.split({"image": image, "label": label, "weight": weight})
    run = layout.map(step, donate=True).lower(held, rows).compile()

    def call() -> None:
        nonlocal held
        held, _ = run(held, rows)

    wait = lambda: jax.block_until_ready(held)  # noqa: E731
    return Case(call, jax_facts(run, gflops), wait=wait)


def theirs(
    *,
    model: str,
    fields: dict,
    batch: int,
    size: int,
    train: bool,
    compiled: bool,
    device: str = "cpu",
) -> Case:
    import torch

    from experiments.bench import torch_models

    net = getattr(torch_models, model)(CLASSES, **fields).train(train)
    image, label = map(torch.from_numpy, pictures(batch, size))
    net, image, cast, wait = torch_on(device, net, image)
    label = label.long().to(device)
    run = torch.compile(net) if compiled else net
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=device != "cpu" or None)

    def step() -> None:
        optimizer.zero_grad()
        with cast:
            loss = torch.nn.functional.cross_entropy(run(image), label)
        loss.backward()
        optimizer.step()

    def inference() -> None:
        with torch.inference_mode(), cast:
            run(image)

    return Case(step if train else inference, wait=wait)
