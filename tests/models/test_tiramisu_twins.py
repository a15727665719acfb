"""FC-DenseNet beside the same network by PyTorch, by plain Flax and on eight devices."""

import functools

import jax
import numpy as np
import pytest

from dense_nets import Small, equal_trees, step
from experiments.tiramisu_memory import Plain, train_step
from support import equal, initialised, picture
from zoo.models import FCDenseNet103, tiramisu


def twin(torch, model, variables, image, *, train):
    """The network written in PyTorch, on copies of our variables; logits and leaves."""
    F = torch.nn.functional
    tensor = lambda p: torch.tensor(np.asarray(p))  # noqa: E731
    params = jax.tree.map(lambda p: tensor(p).requires_grad_(), variables["params"])
    stats = jax.tree.map(tensor, variables["batch_stats"])
    height, width = image.shape[1:3]

    def conv(x, p):
        kernel = p["kernel"].permute(3, 2, 0, 1)
        return F.conv2d(x, kernel, p["bias"], padding=kernel.shape[-1] // 2)

    def norm(x, p, level, running):
        if train or model.eval_statistics == "batch":
            factor = 2**level
            real = x[:, :, : (height + factor - 1) // factor, : (width + factor - 1) // factor]
            axes = (0, 2, 3) if train else (2, 3)
            mean, var = real.mean(axes, keepdim=True), real.var(axes, unbiased=False, keepdim=True)
        else:
            mean, var = (running[name][None, :, None, None] for name in ("mean", "var"))
        scale, shift = (p[name][None, :, None, None] for name in ("scale", "shift"))
        return (x - mean) / torch.sqrt(var + 1e-4) * scale + shift

    def layer(x, p, level, running):
        return conv(F.relu(norm(x, p, level, running)), p)

    def block(x, skip, level, name):
        """Each layer has running averages of its own, those of the channels it reads."""
        name = f"{name}_{level}"
        whole = {k: torch.cat(([skip[1][k]] if skip else []) + [v]) for k, v in stats[name].items()}
        x = torch.cat([skip[0], x], 1) if skip else x
        for i in range(model.blocks[level]):
            own = {k: v[: x.shape[1]] for k, v in whole.items()}
            x = torch.cat([x, layer(x, params[name][f"layer_{i}"], level, own)], 1)
        return x, whole

    x = torch.from_numpy(image).requires_grad_()
    leaves = params, x
    x = F.pad(x.permute(0, 3, 1, 2), (0, -width % model.stride, 0, -height % model.stride))
    x, skips, lowest = conv(x, params["first"]), [], len(model.blocks) - 1
    for level in range(lowest):
        skips.append(block(x, None, level, "down"))
        x = layer(skips[-1][0], params[f"transition_down_{level}"], level, skips[-1][1])
        x = F.max_pool2d(x, 2)
    x, _ = block(x, None, lowest, "down")
    for level in reversed(range(lowest)):
        p = params[f"transition_up_{level}"]
        new = x[:, -model.growth_rate * model.blocks[level + 1] :]
        x = F.conv_transpose2d(new, p["kernel"].permute(3, 2, 0, 1), p["bias"], stride=2)
        x, _ = block(x[:, :, :-1, :-1], skips[level], level, "up")
    return conv(x, params["head"]).permute(0, 2, 3, 1)[:, :height, :width], leaves


@pytest.mark.parametrize(
    ("statistics", "size", "train"),
    [
        ("running", (12, 16), True),
        pytest.param("running", (9, 14), True, marks=pytest.mark.slow),
        pytest.param("running", (9, 14), False, marks=pytest.mark.slow),
        ("batch", (9, 14), False),
    ],
)
def test_equals_the_torch_twin(peer, statistics, size, train):
    torch = peer("torch")
    model = Small(dropout_rate=0.0, eval_statistics=statistics)
    # Seeds of which no ReLU stands at 0 but for rounding: its gradient is then either one.
    image = picture(2, *size, 3, seed=11)
    variables = initialised(model, image, seed=1)
    want, leaves = twin(torch, model, variables, image, train=train)
    weight = picture(*want.shape, seed=1)
    (want * torch.from_numpy(weight)).sum().backward()
    gradient, (logits, _) = jax.jit(step(model, image, weight, train=train))(variables)
    equal(logits, want.detach(), 1e-4)
    equal_trees(gradient, jax.tree.map(lambda p: p.grad.numpy(), leaves), 1e-4)


def plainly(params):
    """Our parameters under the names of the plain network."""
    named = {}
    for name, p in params.items():
        parts = {f"{name}_{k}": v for k, v in p.items()} if "layer_0" in p else {name: p}
        for key, q in parts.items():
            if "shift" in q:
                norm = {"scale": q["scale"], "bias": q["shift"]}
                q = {"norm": norm, "conv": {"kernel": q["kernel"], "bias": q["bias"]}}
            named[key] = q
    return named


def seen_by_each_layer(stats, model):
    """Our running averages under the names of the plain network, one set a layer."""
    named, skips = {}, []
    join = lambda *parts: {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}  # noqa: E731
    levels = range(len(model.blocks))
    blocks = [f"down_{i}" for i in levels] + [f"up_{i}" for i in reversed(levels[:-1])]
    for name in blocks:
        way, level = name.split("_")
        whole = join(skips[int(level)], stats[name]) if way == "up" else stats[name]
        n = model.blocks[int(level)]
        for i in range(n):
            end = whole["mean"].size - (n - i) * model.growth_rate
            named[f"{name}_layer_{i}"] = {"norm": {k: v[:end] for k, v in whole.items()}}
        if way == "down":
            skips.append(whole)
            if int(level) < len(model.blocks) - 1:
                named[f"transition_{name}"] = {"norm": whole}
    return named


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True], ids=["plain", "remat"])
def test_equals_plain_flax_with_dropout(remat, monkeypatch):
    """Logits, gradients and running averages of a training step, of one pattern of dropout."""

    def bernoulli(key, p, shape):
        del key
        return np.random.default_rng(shape[-1]).random(shape) < p

    def draw(key, rate, shape):  # Of all layers of a block, 4 channels each; or of 13 or 17.
        layers = shape[-1] // 4 if shape[-1] % 4 == 0 else 1
        return np.tile(bernoulli(key, 1 - rate, (*shape[:-1], shape[-1] // layers)), layers)

    monkeypatch.setattr(jax.random, "bernoulli", bernoulli)
    monkeypatch.setattr(tiramisu, "_draw", draw)
    model = Small(growth_rate=4)
    image, weight = picture(2, 8, 12, 3), picture(2, 8, 12, 3, seed=1)
    variables = initialised(model, image)
    run = functools.partial(step, image=image, weight=weight, key=jax.random.key(0))
    (got, by_image), (logits, after) = jax.jit(run(model))(variables)
    plain = {
        "params": plainly(variables["params"]),
        "batch_stats": seen_by_each_layer(variables["batch_stats"], model),
    }
    other = jax.jit(run(Plain(model, remat)))
    assert ("remat" in str(jax.make_jaxpr(other)(plain))) == remat
    (want, wanted), (expected, averages) = other(plain)
    equal(logits, expected)
    equal(by_image, wanted)
    equal_trees(plainly(got), want)
    equal_trees(seen_by_each_layer(after, model), averages)
    dry = jax.jit(step(model.clone(dropout_rate=0.0), image, weight))(variables)[1][0]
    assert np.abs(dry - logits).max() > 0.1 * np.abs(logits).max()


def temporaries(model, b, side):
    """Bytes that a training step takes beside its arguments and results."""
    image, label = np.zeros((b, side, side, 3), np.float32), np.zeros((b, side, side), np.int32)
    run, inputs = train_step(model, image, label)
    return run.lower(*inputs).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_takes_half_the_memory():
    model = FCDenseNet103(3, blocks=(4, 4), growth_rate=12, features=24)
    assert temporaries(model, 1, 96) < 0.5 * temporaries(Plain(model), 1, 96)


@pytest.mark.slow
def test_the_103_trains_on_three_crops_in_2_gib():
    """The paper's crops of 224x224 px."""
    assert temporaries(FCDenseNet103(num_classes=11), 3, 224) <= 2.0 * 2**30


@pytest.mark.slow
def test_eight_devices_equal_one():
    """Gradient, logits and statistics of a training step, one picture a device."""
    assert jax.local_device_count() == 8
    model = Small(blocks=(1, 1), dropout_rate=0.0)
    image, weight = picture(8, 1, 5, 6, 1), picture(8, 1, 5, 6, 3, seed=1)
    variables = initialised(model, image[0])
    whole = image[:, 0], weight[:, 0]
    (gradient, _), (logits, after) = jax.jit(step(model, *whole))(variables)

    def shared(image, weight):
        (gradient, _), out = step(model.clone(axis_name="i"), image, weight)(variables)
        return jax.lax.psum(gradient, "i"), out

    got, (found, stats) = jax.pmap(shared, "i")(image, weight)
    equal(found[:, 0], logits)
    equal_trees(jax.tree.map(lambda a: a[0], (got, stats)), (gradient, after))


@pytest.mark.slow
def test_vmap_and_shard_map_in_training():
    model = Small(blocks=(1, 1), dropout_rate=0.0)
    image, weight = picture(2, 1, 4, 4, 1), picture(2, 1, 4, 4, 3, seed=1)
    variables = initialised(model, image[0])
    one = lambda image, weight: step(model, image, weight)(variables)[0]  # noqa: E731
    want = [jax.jit(one)(image[i], weight[i]) for i in range(2)]
    got = jax.jit(jax.vmap(one))(image, weight)
    for i in range(2):
        equal_trees(jax.tree.map(lambda a, i=i: a[i], got), want[i])
    auto = (jax.sharding.AxisType.Auto,)
    mesh, spec = jax.make_mesh((2,), ("i",), auto), jax.sharding.PartitionSpec("i")
    mapped = jax.shard_map(
        lambda image, weight: jax.tree.map(lambda a: a[None], one(image[0], weight[0])),
        mesh=mesh,
        in_specs=spec,
        out_specs=spec,
        check_vma=False,
    )
    equal_trees(jax.jit(mapped)(image, weight), got)


def test_shard_map_that_checks_what_varies():
    """By default `shard_map` adds up cotangents itself; ours did again."""
    model = Small(blocks=(1, 2), dropout_rate=0.0)
    image, weight = picture(4, 5, 6, 1), picture(4, 5, 6, 3, seed=1)
    variables = initialised(model, image)

    def gradient(model, total, params, image, weight):
        def loss(params):
            inputs = {**variables, "params": params}, image
            logits, _ = model.apply(*inputs, train=True, mutable=["batch_stats"])
            return total((weight * logits**2).sum())

        return jax.grad(loss)(params)

    want = jax.jit(functools.partial(gradient, model, lambda x: x))
    mesh = jax.make_mesh((4,), ("i",), (jax.sharding.AxisType.Auto,))
    whole, shared = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("i")
    got = jax.shard_map(
        functools.partial(gradient, model.clone(axis_name="i"), lambda x: jax.lax.psum(x, "i")),
        mesh=mesh,
        in_specs=(whole, shared, shared),
        out_specs=whole,
    )
    inputs = variables["params"], image, weight
    equal_trees(jax.jit(got)(*inputs), want(*inputs))
