import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal, initialised, picture
from zoo.infer.predict import logit_strips, predict_logits
from zoo.models import FCN8s, FCN16s, FCN32s
from zoo.ops import upsample_bilinear

# Compiled without optimization these deep but small networks are ready in half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
MODELS = [FCN32s, FCN16s, FCN8s]
CONVOLUTIONS = (2, 2, 3, 3, 3)


# The paper's numbers.


@pytest.mark.parametrize("kind", MODELS)
def test_paper_network(kind):
    model = kind(num_classes=21)
    assert (model.width, model.dropout_rate, model.stride) == (64, 0.5, 32)
    image = jax.ShapeDtypeStruct((1, 500, 375, 3), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.shape == (1, 500, 375, 21) and logits.dtype == jnp.float32
    params = variables["params"]
    sizes = {name: sum(p.size for p in jax.tree.leaves(params[name])) for name in params}
    assert sum(n for name, n in sizes.items() if name.startswith("stage")) == 14_714_688
    # Behind VGG16, and of FCN-32s without the kernel that enlarges.
    assert sizes["fc6"] == 7 * 7 * 512 * 4096 + 4096 and sizes["fc7"] == 4096 * 4096 + 4096
    last = sizes.pop(f"upscore{ {FCN32s: 32, FCN16s: 16, FCN8s: 8}[kind] }")
    assert last == {FCN32s: 64, FCN16s: 32, FCN8s: 16}[kind] ** 2 * 21 * 21
    skips = {FCN32s: 0, FCN16s: 1, FCN8s: 2}[kind]
    more = [512 * 21 + 21 + 4 * 4 * 21 * 21, 256 * 21 + 21 + 4 * 4 * 21 * 21]
    assert sum(sizes.values()) == 134_346_581 + sum(more[:skips])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("pad", [0, 100])
@pytest.mark.parametrize("size", [(1, 1), (33, 2), (97, 64)])
def test_takes_any_size(kind, pad, size):
    image = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    model = kind(num_classes=3, width=1, pad=pad)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.shape == (2, *size, 3)


@pytest.mark.slow
def test_starts_with_no_opinion_and_bilinear():
    """Zero scores, so the loss is log k; scores that are not are interpolated between centres."""
    model = FCN32s(num_classes=3, width=1)
    image = picture(1, 160, 192, 1)
    params = jit(model.init)(jax.random.key(0), image)["params"]
    assert not jit(model.apply)({"params": params}, image).any()
    params["score_fr"]["kernel"] = picture(*params["score_fr"]["kernel"].shape)
    apply = jit(functools.partial(model.apply, capture_intermediates=True))
    logits, state = apply({"params": params}, image)
    (scores,) = state["intermediates"]["score_fr"]["__call__"]
    assert scores.shape == (1, 5, 6, 3)
    inner = np.s_[:, 16:-16, 16:-16]  # Outside there is nothing to interpolate with.
    equal(logits[inner], upsample_bilinear(scores, 32)[inner])


# The same network in PyTorch.


def twin(torch, model, params, image):
    """The network written in PyTorch, on copies of our parameters; logits and leaves."""
    F = torch.nn.functional
    leaves = jax.tree.map(lambda p: torch.tensor(np.asarray(p)).requires_grad_(), params)

    def conv(x, p, padding=0):
        return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p["bias"], padding=padding)

    def up(x, name, factor):
        kernel = leaves[name]["kernel"].permute(3, 2, 0, 1)
        padding = 0 if model.pad else factor // 2
        return F.conv_transpose2d(x, kernel, stride=factor, padding=padding)

    def crop(x, offset, like):
        offset = offset if model.pad else 0
        h, w = like.shape[2:]
        return x[:, :, offset : offset + h, offset : offset + w]

    x = data = torch.from_numpy(image).permute(0, 3, 1, 2)
    if not model.pad:
        x = F.pad(x, (0, -x.shape[3] % 32, 0, -x.shape[2] % 32))
    pools = []
    for level, n in enumerate(CONVOLUTIONS):
        for i in range(n):
            padding = 100 if model.pad and level == i == 0 else 1
            x = F.relu(conv(x, leaves[f"stage_{level + 1}"][f"Conv_{i}"], padding))
        x = F.max_pool2d(x, 2, ceil_mode=True)
        pools.append(x)
    x = F.relu(conv(x, leaves["fc6"], 0 if model.pad else 3))
    x = conv(F.relu(conv(x, leaves["fc7"])), leaves["score_fr"])
    scales = (1e-2, 1e-4) if getattr(model, "scale_skips", False) else (1, 1)
    if not isinstance(model, FCN16s):
        x = crop(up(x, "upscore32", 32), 19, data)
        return x.permute(0, 2, 3, 1), leaves

    def fuse(x, pool, score, offset):
        skip = conv(pool, leaves[score])
        return x + crop(skip, offset, x)

    x = fuse(up(x, "upscore2", 2), scales[0] * pools[3], "score_pool4", 5)
    if isinstance(model, FCN8s):
        x = fuse(up(x, "upscore_pool4", 2), scales[1] * pools[2], "score_pool3", 9)
        x = crop(up(x, "upscore8", 8), 31, data)
    else:
        x = crop(up(x, "upscore16", 16), 27, data)
    return x.permute(0, 2, 3, 1), leaves


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (FCN32s(3, width=2), (75, 64)),
        pytest.param(FCN32s(3, width=4, pad=100), (36, 64), marks=pytest.mark.slow),
        (FCN16s(3, width=2, scale_skips=True), (75, 64)),
        pytest.param(FCN16s(3, width=4, pad=100), (37, 64), marks=pytest.mark.slow),
        pytest.param(FCN8s(3, width=2), (75, 64), marks=pytest.mark.slow),
        (FCN8s(3, width=4, pad=100, scale_skips=True), (41, 7)),
    ],
    ids=["32s", "32s-pad", "16s-scaled", "16s-pad", "8s", "8s-pad-scaled"],
)
def test_equals_the_torch_twin(peer, model, size):
    torch = peer("torch")
    image = picture(2, *size, 3)
    params = initialised(model, image)["params"]
    if model.pad:
        # A bias above 0 would make the ring around the picture one of equal values, and rounding
        # would choose the maximum that has the gradient.
        for name in params:
            if name.startswith("stage"):
                for layer in params[name].values():
                    layer["bias"] = -0.1 * layer["bias"]
    want, leaves = twin(torch, model, params, image)
    weight = picture(*want.shape, seed=1)
    (want * torch.from_numpy(weight)).sum().backward()

    @jit
    def run(params):
        def loss(params):
            logits = model.apply({"params": params}, image)
            return (logits * weight).sum(), logits

        return jax.grad(loss, has_aux=True)(params)

    gradient, logits = run(params)
    equal(logits, want.detach())
    theirs = jax.tree.map(lambda p: p.grad.numpy(), leaves)
    for (path, got), expected in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(theirs), strict=True
    ):
        assert got.any(), jax.tree_util.keystr(path)
        equal(got, expected, message=jax.tree_util.keystr(path))


# Reach.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "halo", "pad"),
    [
        pytest.param(FCN32s, 233, 0, marks=pytest.mark.slow),
        pytest.param(FCN32s, 233, 100, marks=pytest.mark.slow),
        pytest.param(FCN16s, 241, 0, marks=pytest.mark.slow),
        pytest.param(FCN16s, 241, 100, marks=pytest.mark.slow),
        (FCN8s, 245, 0),
        pytest.param(FCN8s, 245, 100, marks=pytest.mark.slow),
    ],
)
def test_halo_is_how_far_a_pixel_sees(kind, halo, pad):
    model = kind(2, width=1, pad=pad)
    assert model.halo == halo
    side = 640
    image = np.ones((1, 1, side, 1), np.float32)  # A row: rows and columns are alike, see above.
    # Positive weights: nothing cancels and no ReLU is dead.
    variables = jax.tree.map(jnp.abs, initialised(model, image))
    centre = side // 2 // model.stride * model.stride
    phases = slice(centre, centre + model.stride)

    # Equal maxima share a pool's gradient, so none is hidden.
    _, pull = jax.vjp(lambda x: model.apply(variables, x)[0, 0, phases].sum(-1), image)
    (gradient,) = jit(jax.vmap(pull))(np.eye(model.stride, dtype=np.float32))
    touched = gradient[:, 0, 0, :, 0] != 0
    at = np.arange(centre, centre + model.stride)
    first, last = np.argmax(touched, 1), side - 1 - np.argmax(touched[:, ::-1], 1)
    assert max((at - first).max(), (last - at).max()) == halo


@pytest.mark.parametrize("pad", [0, pytest.param(100, marks=pytest.mark.slow)])
def test_translation(pad):
    model = FCN8s(3, width=2, pad=pad)
    image = picture(1, 64, 640, 2)
    variables = initialised(model, image)
    apply = jit(model.apply)
    whole, shift, halo = apply(variables, image), model.stride, model.halo

    def difference(shift):
        moved = apply(variables, np.roll(image, shift, 2))[:, :, halo + shift : 640 - halo]
        want = whole[:, :, halo : 640 - halo - shift]
        return np.abs(moved - want).max() / np.abs(want).max()

    assert difference(shift) <= 1e-5
    assert difference(8) > 1e-2  # Between strides the poolings' phase changes.


# As a pure function.


def test_bfloat16_computes_and_keeps_float32_parameters():
    image = picture(1, 40, 64, 3)
    model = FCN8s(3, width=4, dtype="bfloat16")
    variables = initialised(model, image)
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jit(model.apply)(variables, image)
    assert logits.dtype == jnp.float32
    want = jit(model.clone(dtype="float32").apply)(variables, image)
    assert 1e-4 < np.abs(logits - want).max() / np.abs(want).max() < 0.05
    # Also inside: only the scores, and what enlarges them, are float32.
    equations = jax.make_jaxpr(model.apply)(variables, image).eqns
    made = {}
    for e in equations:
        made.setdefault(e.primitive.name, []).append(e.outvars[0].aval.dtype)
    assert made["conv_general_dilated"] == 14 * [jnp.bfloat16] + 3 * [jnp.float32]
    # fc6 is larger than its map, hence a product; then the three that enlarge.
    assert made["dot_general"] == [jnp.bfloat16] + 3 * [jnp.float32]


def test_tiles_equal_the_whole_at_a_side_that_32_does_not_divide():
    """To its end: the last tile is padded as the model pads the picture."""
    model, image = FCN8s(2, width=1), picture(1061, 7, 1)
    variables = jax.tree.map(lambda p: picture(*p.shape), initialised(model, image[None]))
    whole = predict_logits(model, variables, image, tile=None)
    equal(predict_logits(model, variables, image, tile=1024), whole)


def test_with_the_zeros_of_the_release_no_picture_is_cut():
    model, image = FCN32s(2, width=1, pad=100), picture(1061, 7, 1)
    assert model.whole and not FCN32s(2, width=1).whole
    assert len(list(logit_strips(model, initialised(model, image[None]), image, tile=512))) == 1


def test_vmap_equals_a_batch():
    model = FCN16s(2, width=1)
    image = picture(3, 1, 33, 7, 1)
    variables = initialised(model, image[0])
    want = jit(model.apply)(variables, image[:, 0])
    equal(jit(jax.vmap(model.apply, (None, 0)))(variables, image)[:, 0], want)


@pytest.mark.parametrize("kind", MODELS)
def test_model_is_its_own_configuration(kind):
    model = kind(3, width=8, pad=100)
    fields = {
        f.name: getattr(model, f.name)
        for f in dataclasses.fields(model)
        if f.name not in ("parent", "name")
    }
    assert kind(**fields) == model and hash(kind(**fields)) == hash(model)
    assert fields == {
        "num_classes": 3,
        "width": 8,
        "pad": 100,
        "dtype": "float32",
        "dropout_rate": 0.5,
        "axis_name": None,
        **({} if kind is FCN32s else {"scale_skips": False}),
    }


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"num_classes": 1}, (1, 8, 8, 1), "FCN8s.num_classes must be at least 2; got 1"),
        ({"width": 0}, (1, 8, 8, 1), "FCN8s.width must be at least 1; got 0"),
        ({"pad": 99}, (1, 8, 8, 1), "FCN8s.pad must be one of 0, 100; got 99"),
        ({"dropout_rate": 1.0}, (1, 8, 8, 1), r"dropout_rate must be in \[0, 1\); got 1.0"),
        ({"dtype": "float16"}, (1, 8, 8, 1), "dtype must be one of float32, bfloat16"),
        ({}, (8, 8, 1), r"FCN8s takes a batch of float images .* float32 \(8, 8, 1\)"),
        ({}, (1, 0, 8, 1), "at least one pixel"),
    ],
)
def test_refuses(fields, shape, message):
    model = FCN8s(**{"num_classes": 2, "width": 1, **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
