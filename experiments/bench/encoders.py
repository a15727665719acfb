"""Inference of the encoders beside the same network in PyTorch; `siamese` has their training."""

import os

from experiments.bench.row import OURS, Case, Row, Side, jax_facts

NETS = {"siamese_encoder": "SiameseEncoder", "residual_encoder": "ResidualEncoder"}


def rows(*, quick: bool) -> list[Row]:
    """PyTorch's compiler, which takes its time, apart."""
    found, batch = [], 2 if quick else 256
    for name, model in NETS.items():
        options = {"model": model, "batch": batch}
        for compiled in (False, True):
            more, tool = {**options, "compiled": compiled}, "g++" if compiled else None
            sides = {
                OURS: Side(f"{__name__}:ours", options, ("jax", "flax")),
                "torch.compile" if compiled else "PyTorch eager": Side(
                    f"{__name__}:theirs", more, ("torch",), tool=tool
                ),
            }
            label = f"{name}/inference{'_compiled' if compiled else ''}"
            found.append(Row(label, f"{model}(), {batch} x 28 x 28 px", sides, images=batch))
    return found


def pictures(batch: int):
    """Noise [b, 28, 28, 1] float32."""
    import numpy as np

    return np.random.default_rng(0).normal(size=(batch, 28, 28, 1)).astype(np.float32)


def ours(*, model: str, batch: int) -> Case:
    import jax

    from zoo import models

    net, image = getattr(models, model)(), jax.numpy.asarray(pictures(batch))
    variables = jax.jit(net.init)(jax.random.key(0), image[:1])
    run = jax.jit(net.apply).lower(variables, image).compile()

    def call() -> None:
        jax.block_until_ready(run(variables, image))

    return Case(call, jax_facts(run))


def theirs(*, model: str, batch: int, compiled: bool) -> Case:
    import torch

    from experiments.bench import torch_models

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    net = getattr(torch_models, model)().eval()
    image = torch.from_numpy(pictures(batch)).permute(0, 3, 1, 2).contiguous()
    run = torch.compile(net) if compiled else net

    def call() -> None:
        with torch.inference_mode():
            run(image)

    return Case(call)
