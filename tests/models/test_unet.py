import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


# Skips, symmetry and reach.


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_every_skip_is_used_and_learns(padding):
    model = UNet(2, width=2, padding=padding)
    side = 188 if padding == "VALID" else 32
    image = picture(1, side, side, 1)
    params = initialised(model, image)["params"]

    @jax.jit
    def run(params):
        def total(params):
            logits = model.apply({"params": params}, image)
            return jnp.square(logits).sum(), logits

        return jax.grad(total, has_aux=True)(params)

    def cut(params, name, channels):
        """With 0 in the part of a decoder's first kernel that reads these channels."""
        kernel = params[name]["Conv_0"]["kernel"].at[:, :, channels].set(0)
        return {
            **params,
            name: {**params[name], "Conv_0": {**params[name]["Conv_0"], "kernel": kernel}},
        }

    gradient, logits = run(params)
    for level in range(model.depth):
        name, half = f"decoder_{level}", 2 * 2**level
        skip, below = slice(None, half), slice(half, None)
        assert params[name]["Conv_0"]["kernel"].shape[2] == 2 * half
        assert np.abs(gradient[name]["Conv_0"]["kernel"][:, :, skip]).max() > 0
        _, without = run(cut(params, name, skip))
        assert np.abs(logits - without).max() > 1e-3 * np.abs(logits).max()
        # Cut off what comes from below: this level's encoder learns through its skip alone.
        alone, _ = run(cut(params, name, below))
        assert np.abs(alone[f"encoder_{level}"]["Conv_0"]["kernel"]).max() > 0
        assert not np.any(alone[f"encoder_{level + 1}"]["Conv_0"]["kernel"])


@pytest.mark.parametrize("down", ["pool", "conv"])
def test_translation_by_the_stride_moves_the_logits(down):
    model = UNet(2, width=4, depth=2, down=down)
    shift, halo = model.stride, model.halo
    assert shift == 4
    image = picture(1, 80, 80, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)

    def difference(shift):
        moved = apply(variables, np.roll(image, (shift, shift), (1, 2)))
        inner, there = slice(halo, 80 - halo - shift), slice(halo + shift, 80 - halo)
        want = apply(variables, image)[:, inner, inner]
        return np.abs(moved[:, there, there] - want).max() / np.abs(want).max()

    assert difference(shift) <= 1e-5
    assert difference(1) > 1e-2  # Between strides the pooling's phase changes.


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("down", ["pool", "conv"])
def test_halo_is_how_far_a_pixel_sees(depth, down):
    model = UNet(2, width=2, depth=depth, down=down)
    side = 4 * model.stride + 2 * model.halo
    side += -side % model.stride
    image = np.ones((1, side, side, 1), np.float32)
    # Positive weights: nothing cancels and no ReLU is dead.
    variables = jax.tree.map(jnp.abs, initialised(model, image))

    @jax.jit
    def reach(image, y, x):
        """Rows above and below and columns left and right that a pixel's gradient touches."""
        gradient = jax.grad(lambda image: model.apply(variables, image)[0, y, x].sum())(image)
        touched = gradient[0, :, :, 0] != 0
        rows, columns = touched.any(1), touched.any(0)
        first, last = jnp.argmax, lambda a: side - 1 - jnp.argmax(a[::-1])
        return y - first(rows), last(rows) - y, x - first(columns), last(columns) - x

    # One pixel of each phase; equal maxima share a pool's gradient, so none is hidden.
    centre = side // 2 // model.stride * model.stride
    found = [reach(image, centre + i, centre + i) for i in range(model.stride)]
    assert np.max(found) == model.halo


def test_tiles_equal_the_whole_for_valid():
    model = UNet(3, width=4, depth=2, padding="VALID")
    image = picture(1, 84, 76, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)
    whole = apply(variables, image)
    side = 52  # Gives 12, a multiple of 2**depth: tiles abut.
    made = np.full_like(whole, np.nan)
    for y in (0, 12, 24, 32):
        for x in (0, 12, 24):
            tile = image[:, y : y + side, x : x + side]
            made[:, y : y + 12, x : x + 12] = apply(variables, tile)
    equal(made, whole)


def test_tiles_with_a_halo_equal_the_whole_for_same():
    model = UNet(3, width=4, depth=2)
    assert (model.stride, model.halo) == (4, 23)
    image = picture(1, 96, 96, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)
    tile = apply(variables, image[:, 16:76, 16:76])
    equal(tile[:, 24:36, 24:36], apply(variables, image)[:, 40:52, 40:52])


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


@pytest.mark.slow
def test_batch_statistics_move_in_training_only():
    model = UNet(2, width=2, depth=2, norm="batch", dropout_rate=0.0)
    image = picture(2, 8, 8, 1)
    variables = initialised(model, image)
    _, after = model.apply(variables, image, mutable="batch_stats")
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], variables["batch_stats"])
    _, after = model.apply(variables, image, train=True, mutable="batch_stats")
    for old, new in zip(
        jax.tree.leaves(variables["batch_stats"]),
        jax.tree.leaves(after["batch_stats"]),
        strict=True,
    ):
        assert (old != new).all()
    # Momentum 0.9, by hand for the first norm.
    kernel = np.asarray(variables["params"]["encoder_0"]["Conv_0"]["kernel"], np.float64)
    padded = np.pad(image[..., 0], ((0, 0), (1, 1), (1, 1))).astype(np.float64)
    y = sum(
        padded[:, i : i + 8, j : j + 8, None] * kernel[i, j, 0] for i in range(3) for j in range(3)
    )
    got = after["batch_stats"]["encoder_0"]["BatchNorm_0"]
    old = variables["batch_stats"]["encoder_0"]["BatchNorm_0"]
    for name, new in {"mean": y.mean((0, 1, 2)), "var": y.var((0, 1, 2))}.items():
        np.testing.assert_allclose(got[name], 0.9 * old[name] + 0.1 * new, rtol=1e-5)


@pytest.mark.slow
def test_batch_statistics_are_shared_over_the_axis():
    model = UNet(2, width=2, depth=1, norm="batch", dropout_rate=0.0)
    image = picture(2, 2, 8, 8, 1)
    variables = initialised(model, image[0])

    def train(model, image):
        return model.apply(variables, image, train=True, mutable="batch_stats")

    want, stats = train(model, image.reshape(4, 8, 8, 1))
    got, shared = jax.vmap(lambda x: train(model.clone(axis_name="i"), x), axis_name="i")(image)
    equal(got.reshape(want.shape), want)
    jax.tree.map(lambda a, b: equal(a[0], b), shared, stats)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_deep_supervision_adds_logits_of_lower_levels(padding):
    height, width = (92, 92) if padding == "VALID" else (21, 30)
    image = picture(1, height, width, 1)
    plain = UNet(3, width=2, depth=3, padding=padding, dropout_rate=0.0)
    deep = plain.clone(deep_supervision=2)
    params = initialised(deep, image)["params"]
    assert params.keys() - initialised(plain, image)["params"].keys() == {"head_1", "head_2"}
    _, state = deep.apply({"params": params}, image, capture_intermediates=True)
    logits, *coarse = jax.jit(lambda p: deep.apply({"params": p}, image, train=True))(params)
    want = plain.apply({"params": params}, image)
    np.testing.assert_array_equal(deep.apply({"params": params}, image), want)
    equal(logits, want)
    height, width = want.shape[1:3]
    for level, got in enumerate(coarse, start=1):
        x = np.asarray(state["intermediates"][f"decoder_{level}"]["__call__"][0], np.float64)
        head = params[f"head_{level}"]
        small = np.einsum("bhwc,cd->bhwd", x, head["kernel"][0, 0]) + head["bias"]
        large = np.kron(small, np.ones((1, 2**level, 2**level, 1)))
        # Unpadded, a level reaches 4 * (2**level - 1) / 2 pixels farther on each side.
        top = 2 * (2**level - 1) if padding == "VALID" else 0
        if padding == "VALID":
            assert large.shape[1] == height + 2 * top
        equal(got, large[:, top : top + height, top : top + width])


def test_dropout_is_at_the_bottom_and_in_training_only():
    model = UNet(2, width=2, depth=1, dropout_rate=0.5)
    image = picture(1, 8, 8, 1)
    variables = initialised(model, image)
    want = model.apply(variables, image)
    np.testing.assert_array_equal(model.apply(variables, image), want)

    def train(variables, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(model.apply(variables, image, train=True, rngs=rngs))

    np.testing.assert_array_equal(train(variables, 0), train(variables, 0))
    assert (train(variables, 0) != train(variables, 1)).any()
    # With nothing coming up from the bottom, dropout shows nowhere.
    up = variables["params"]["up_0"]
    cut = {"params": {**variables["params"], "up_0": {**up, "kernel": 0 * up["kernel"]}}}
    np.testing.assert_array_equal(train(cut, 0), train(cut, 1))


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


@pytest.mark.slow
def test_learns_one_batch_by_heart():
    model = UNet(3, width=8, depth=1, dropout_rate=0.0)
    rng = np.random.default_rng(0)
    image = picture(2, 16, 16, 1)
    label = rng.integers(0, 3, (2, 16, 16))
    params = initialised(model, image)
    tx = optax.adam(1e-2)

    @jax.jit
    def fit(params):
        def loss(params):
            logits = model.apply(params, image)
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = tx.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, tx.init(params)), length=300)[1]

    losses = fit(params)
    assert losses[0] > 0.9 and losses[-1] < 0.05
