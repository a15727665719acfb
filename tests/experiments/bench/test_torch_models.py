"""The networks that ours are timed beside are the same networks."""

import importlib
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from experiments.bench import encoders
from experiments.bench.segmentation import QUICK, pictures
from zoo import models


def ordered(name: str) -> tuple:
    """Sorts a block's Conv_0, BatchNorm_0, Conv_1 ..., as PyTorch's modules stand in theirs."""
    kind, _, number = name.rpartition("_")
    return int(number), kind != "Conv"


def layers(params: dict) -> list[dict]:
    """The leaves of a child of ours, a dict a layer of PyTorch's."""
    if not params:
        return []
    if not any(isinstance(value, dict) for value in params.values()):
        if "shift" not in params:  # Of a convolution or a batch norm.
            return [params]
        norm = {"scale": params["scale"], "bias": params["shift"]}
        return [norm, {"kernel": params["kernel"], "bias": params["bias"]}]
    return [leaf for name in sorted(params, key=ordered) for leaf in layers(params[name])]


def copy(torch, params: dict, net) -> None:
    """Our parameters into PyTorch's modules of the same names; each must be met."""
    assert set(params) == {n for n, m in net.named_children() if list(m.parameters())}
    for name, child in net.named_children():
        own = [m for m in child.modules() if list(m.parameters(recurse=False))]
        for module, leaf in zip(own, layers(params.get(name, {})), strict=True):
            given = {}
            for key, x in leaf.items():
                # [kh, kw, in, out], or [kh, kw, out, in] where it goes up.
                x = np.array(x).transpose(3, 2, 0, 1) if x.ndim == 4 else np.array(x)
                given["bias" if key == "bias" else "weight"] = torch.from_numpy(x)
            module.load_state_dict(given, strict=False)
            assert set(given) == set(dict(module.named_parameters()))


@pytest.mark.parametrize("name", list(QUICK))
def test_twin_has_our_parameters_and_logits(peer, name):
    torch = peer("torch")
    twins = importlib.import_module("experiments.bench.torch_models")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in QUICK[name].items()}
    off = {} if name in ("MaxUnpoolNet", "PatchClassifier") else {"dropout_rate": 0.0}
    model = getattr(models, name)(num_classes=3, **fields, **off)
    image, _ = pictures(2, 32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(0)  # Random where a start is constant: zeros would hide a fault.
    fill = lambda leaf: rng.normal(0.1, 0.3, leaf.shape).astype(np.float32)  # noqa: E731
    variables = {**shapes, "params": jax.tree.map(fill, shapes["params"])}
    if "batch_stats" in shapes:
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes["batch_stats"])
        variables["batch_stats"] = zeros
    run = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable="batch_stats")[0])

    options = {"dropout": 0.0} if off else {}
    net = getattr(twins, name)(3, **fields, **options).train()
    ours = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sum(p.numel() for p in net.parameters()) == ours
    copy(torch, variables["params"], net)
    with torch.no_grad():
        want = net(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    assert np.isfinite(want).all() and want.std() > 0.01
    np.testing.assert_allclose(run(variables, image), want, rtol=0, atol=1e-4 * abs(want).max())
    assert re.search(rf"zoo\.models\.{name}\b", getattr(twins, name).__doc__)


@pytest.mark.parametrize("name", encoders.NETS.values())
def test_twin_of_an_encoder_has_our_parameters_and_points(peer, name):
    """Their children have the names of ours."""
    torch = peer("torch")
    twins = importlib.import_module("experiments.bench.torch_models")
    model, image = getattr(models, name)(), encoders.pictures(2)
    shapes, rng = jax.eval_shape(model.init, jax.random.key(0), image), np.random.default_rng(0)
    draw = lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32)  # noqa: E731
    variables = jax.tree.map(draw, shapes)
    net = getattr(twins, name)().eval()
    ours = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sum(p.numel() for p in net.parameters()) == ours
    theirs = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    for (_, *path, leaf), x in flatten_dict(variables).items():
        x = x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T  # [kh, kw, in, out], or [in, out].
        given = getattr(net.get_submodule(".".join(path)), theirs.get(leaf, leaf))
        given.data.copy_(torch.from_numpy(np.array(x)))
    with torch.no_grad():
        want = net(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    got = jax.jit(model.apply)(variables, image)
    assert want.std() > 0.01 * abs(want).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * abs(want).max())


def test_paper_sizes(peer):
    """As many parameters as the papers' networks, which the rows time."""
    peer("torch")
    twins = importlib.import_module("experiments.bench.torch_models")
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    assert count(twins.FCDenseNet103(11)) == 9_322_091
    assert count(twins.FCDenseNet103(11, growth_rate=12, blocks=6 * [4])) == 1_376_795
    # 31,030,658 of one channel and two classes; 3x3 kernels of 64 maps, and heads with a bias.
    assert count(twins.UNet(11)) == 31_030_658 + 2 * 9 * 64 + 9 * 65
