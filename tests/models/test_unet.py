import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal, initialised, picture
from zoo.models import UNet


def count(variables):
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


# The paper's numbers.


def test_paper_network():
    model = UNet(num_classes=2, padding="VALID")
    image = jax.ShapeDtypeStruct((1, 572, 572, 1), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert count(variables) == 31_030_658
    logits = jax.eval_shape(model.apply, variables, image)
    assert logits.shape == (1, 388, 388, 2) and logits.dtype == jnp.float32


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (571, "a pooling would meet an odd side; the nearest legal sizes are 556 and 572."),
        (573, "a pooling would meet an odd side; the nearest legal sizes are 572 and 588."),
        (172, "nothing would be left; the smallest legal size is 188."),
        (1, "nothing would be left; the smallest legal size is 188."),
    ],
)
def test_valid_names_the_nearest_legal_sizes(side, message):
    model = UNet(num_classes=2, padding="VALID")
    want = f'UNet(depth=4, padding="VALID") cannot take {side} px: {message}'
    for shape in [(1, side, 572, 1), (1, 572, side, 1)]:
        with pytest.raises(ValueError) as error:
            jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
        assert str(error.value) == want


def test_icnr_starts_its_up_convolutions_alike_at_all_places_and_nothing_else():
    image = np.zeros((1, 8, 8, 1), np.float32)
    models = (UNet(num_classes=2, width=32, depth=2, icnr=on) for on in (False, True))
    plain, icnr = (jax.jit(m.init)(jax.random.key(0), image)["params"] for m in models)
    for level, inputs in ((0, 64), (1, 128)):
        kernel = icnr.pop(f"up_{level}")["kernel"]
        assert kernel.shape == (2, 2, inputs // 2, inputs)
        np.testing.assert_array_equal(kernel, np.broadcast_to(kernel[:1, :1], kernel.shape))
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / inputs), rtol=0.05)
        drawn = plain.pop(f"up_{level}")["kernel"]
        assert not np.allclose(drawn[0, 0], drawn[1, 1])
    jax.tree.map(np.testing.assert_array_equal, icnr, plain)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_valid_takes_just_the_sizes_that_halve_evenly(depth):
    def rest(side):
        """Walks through the network with a pencil; None where it cannot."""
        for _ in range(depth):
            side -= 4
            if side < 1 or side % 2:
                return None
            side //= 2
        side -= 4
        for _ in range(depth):
            side = 2 * side - 4
        return side if side > 0 else None

    model = UNet(num_classes=2, width=1, depth=depth, padding="VALID")
    variables = initialised(model, picture(1, 188, 188, 1))
    for side in range(1, 48 * depth):
        image = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        try:
            got = jax.eval_shape(model.apply, variables, image)
        except ValueError:
            assert rest(side) is None
        else:
            assert got.shape == (1, rest(side), rest(side), 2)


@pytest.mark.parametrize("size", [(1, 1), (97, 131), (16, 3), (33, 32)])
def test_same_takes_any_size(size):
    model = UNet(num_classes=3, width=2)
    image = picture(2, *size, 3)
    logits = jax.jit(model.apply)(initialised(model, image), image)
    assert logits.shape == (2, *size, 3)
    assert np.isfinite(logits).all()


# The same network in PyTorch.


def twin(torch, model, variables, image, *, train=False):
    """The network written in PyTorch, on copies of our variables; logits and leaves."""
    F = torch.nn.functional
    params = jax.tree.map(
        lambda p: torch.tensor(np.asarray(p)).requires_grad_(), variables["params"]
    )
    stats = jax.tree.map(lambda p: torch.tensor(np.asarray(p)), variables.get("batch_stats", {}))
    pad = 1 if model.padding == "SAME" else 0

    def conv(x, p, **options):
        return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p.get("bias"), **options)

    def block(x, name):
        for i in range(2):
            x = conv(x, params[name][f"Conv_{i}"], padding=pad)
            if model.norm == "batch":
                p, s = params[name][f"BatchNorm_{i}"], stats[name][f"BatchNorm_{i}"]
                x = F.batch_norm(x, s["mean"], s["var"], p["scale"], p["bias"], training=train)
            x = F.relu(x)
        return x

    _, height, width, _ = image.shape
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    if model.padding == "SAME":
        x = F.pad(x, (0, -width % 2**model.depth, 0, -height % 2**model.depth))
    skips = []
    for level in range(model.depth):
        x = block(x, f"encoder_{level}")
        skips.append(x)
        if model.down == "conv":
            x = conv(x, params[f"down_{level}"], stride=2)
        else:
            x = F.max_pool2d(x, 2)
    x = block(x, f"encoder_{model.depth}")
    for level in reversed(range(model.depth)):
        up = params[f"up_{level}"]
        x = F.conv_transpose2d(x, up["kernel"].permute(3, 2, 0, 1), up["bias"], stride=2)
        skip = skips[level]
        cut = (skip.shape[2] - x.shape[2]) // 2, (skip.shape[3] - x.shape[3]) // 2
        skip = skip[:, :, cut[0] : cut[0] + x.shape[2], cut[1] : cut[1] + x.shape[3]]
        x = block(torch.cat([skip, x], dim=1), f"decoder_{level}")
    x = conv(x, params["head"]).permute(0, 2, 3, 1)
    return (x[:, :height, :width] if model.padding == "SAME" else x), params


@pytest.mark.parametrize(
    ("model", "size", "train"),
    [
        (UNet(3, width=4, depth=3, dropout_rate=0.0), (24, 37), True),
        (UNet(3, width=4, depth=2, padding="VALID"), (48, 44), False),
        (UNet(3, width=4, depth=2, down="conv"), (21, 16), False),
        (UNet(3, width=4, depth=2, norm="batch"), (20, 18), False),
        (UNet(3, width=4, depth=2, norm="batch", down="conv", dropout_rate=0.0), (20, 16), True),
        (UNet(2, width=8), (16, 16), False),
    ],
    ids=["same", "valid", "conv", "norm", "norm-train", "deep"],
)
def test_equals_the_torch_twin(peer, model, size, train):
    torch = peer("torch")
    image = picture(2, *size, 3)
    variables = initialised(model, image)
    want, leaves = twin(torch, model, variables, image, train=train)
    weight = picture(*want.shape, seed=1)
    (want * torch.from_numpy(weight)).sum().backward()

    @jax.jit
    def run(params):
        def loss(params):
            logits, _ = model.apply(
                {**variables, "params": params}, image, train=train, mutable="batch_stats"
            )
            return (logits * weight).sum(), logits

        return jax.grad(loss, has_aux=True)(params)

    gradient, logits = run(variables["params"])
    equal(logits, want.detach())
    theirs = jax.tree.map(lambda p: p.grad.numpy(), leaves)
    for (path, got), expected in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(theirs), strict=True
    ):
        equal(got, expected, message=jax.tree_util.keystr(path))


# As a pure function.


@pytest.mark.slow
def test_bfloat16_computes_and_keeps_float32_parameters():
    image = picture(2, 16, 16, 3)
    for norm in (None, "batch"):
        model = UNet(3, width=8, depth=2, norm=norm, dtype="bfloat16")
        variables = initialised(model, image)
        assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        logits = jax.jit(model.apply)(variables, image)
        assert logits.dtype == jnp.float32
        want = UNet(3, width=8, depth=2, norm=norm).apply(variables, image)
        assert 1e-4 < np.abs(logits - want).max() / np.abs(want).max() < 0.05
        # Also inside: only the head and the statistics are float32.
        text = str(jax.make_jaxpr(model.apply)(variables, image))
        assert text.count("f32[3,3,") == text.count("bf16[3,3,") > 0


@pytest.mark.slow
def test_vmap_and_pmap_equal_a_batch():
    model = UNet(2, width=2, depth=2)
    n = jax.local_device_count()
    image = picture(n, 1, 9, 7, 1)
    variables = initialised(model, image[0])
    want = model.apply(variables, image[:, 0])
    equal(jax.vmap(lambda x: model.apply(variables, x))(image)[:, 0], want)
    equal(jax.pmap(model.apply, in_axes=(None, 0))(variables, image)[:, 0], want)


def test_model_is_its_own_configuration():
    model = UNet(3, width=8, depth=2, padding="VALID", norm="batch", down="conv")
    fields = {
        f.name: getattr(model, f.name)
        for f in dataclasses.fields(model)
        if f.name not in ("parent", "name")
    }
    assert UNet(**fields) == model and hash(UNet(**fields)) == hash(model)
    assert fields == {
        "num_classes": 3,
        "width": 8,
        "depth": 2,
        "padding": "VALID",
        "dtype": "float32",
        "norm": "batch",
        "dropout_rate": 0.5,
        "down": "conv",
        "deep_supervision": 0,
        "icnr": False,
        "axis_name": None,
    }


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"num_classes": 1}, (1, 8, 8, 1), "num_classes must be at least 2; got 1"),
        ({"width": 0}, (1, 8, 8, 1), "width must be at least 1; got 0"),
        ({"depth": 0}, (1, 8, 8, 1), "depth must be at least 1; got 0"),
        ({"padding": "same"}, (1, 8, 8, 1), "padding must be one of SAME, VALID; got 'same'"),
        ({"dtype": "float16"}, (1, 8, 8, 1), "dtype must be one of float32, bfloat16"),
        ({"norm": "layer"}, (1, 8, 8, 1), "norm must be one of None, batch; got 'layer'"),
        ({"down": "stride"}, (1, 8, 8, 1), "down must be one of pool, conv; got 'stride'"),
        ({"dropout_rate": 1.0}, (1, 8, 8, 1), r"dropout_rate must be in \[0, 1\); got 1.0"),
        ({"deep_supervision": 4}, (1, 8, 8, 1), r"deep_supervision must be in 0\.\.3; got 4"),
        ({}, (8, 8, 1), r"float images \[b, h, w, c\]; got float32 \(8, 8, 1\)"),
        ({}, (1, 0, 8, 1), "at least one pixel"),
    ],
)
def test_refuses(fields, shape, message):
    model = UNet(**{"num_classes": 2, "width": 2, **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
