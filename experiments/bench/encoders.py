"""Inference of the encoders beside the same network in PyTorch; `siamese` has their training."""

from experiments.bench.row import OURS, Case, Row, Side, jax_facts, model_gflops, torch_on

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


def ours(*, model: str, batch: int, device: str = "cpu") -> Case:
    import jax

    from zoo import models

    net = getattr(models, model)(dtype="float32" if device == "cpu" else "bfloat16")
    image, points = jax.numpy.asarray(pictures(batch)), None
    variables = jax.jit(net.init)(jax.random.key(0), image[:1])
    run = jax.jit(net.apply).lower(variables, image).compile()

    def call() -> None:
        nonlocal points
        points = run(variables, image)

    wait = lambda: jax.block_until_ready(points)  # noqa: E731
    return Case(call, jax_facts(run, model_gflops(net.apply, variables, image)), wait=wait)


def theirs(*, model: str, batch: int, compiled: bool, device: str = "cpu") -> Case:
    import torch

    from experiments.bench import torch_models

    net, image = getattr(torch_models, model)().eval(), torch.from_numpy(pictures(batch))
    net, image, cast, wait = torch_on(device, net, image)
    run = torch.compile(net) if compiled else net

    def call() -> None:
        with torch.inference_mode(), cast:
            run(image)

    return Case(call, wait=wait)
