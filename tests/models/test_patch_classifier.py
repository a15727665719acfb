import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from patch_nets import NETS, every
from support import descend, equal, initialised, picture
from zoo.models import PatchClassifier, sliding_window


def cut(model, image):
    """All windows [b * h * w, window, window, c] of the mirrored image, by NumPy alone."""
    before, after = model.window // 2, (model.window - 1) // 2
    seen = np.pad(image, ((0, 0), (before, after), (before, after), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(seen, 2 * (model.window,), (1, 2))
    return np.moveaxis(windows, 3, 5).reshape(-1, model.window, model.window, image.shape[3])


def twin(torch, model, variables, windows):
    """The network of one window written in PyTorch, on copies of our variables."""
    F = torch.nn.functional
    params = jax.tree.map(
        lambda p: torch.tensor(np.asarray(p)).requires_grad_(), variables["params"]
    )

    def conv(x, name):
        p = params[name]
        return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p["bias"])

    x = torch.tensor(windows).permute(0, 3, 1, 2)
    for i in range(len(model.kernels)):
        x = F.relu(conv(x, f"conv_{i}"))
        assert x.shape[2] % model.pool == x.shape[3] % model.pool == 0
        x = F.max_pool2d(x, model.pool)
    # Fully connected over all that is left.
    hidden = params["hidden"]
    x = F.relu(x.permute(0, 2, 3, 1).flatten(1) @ hidden["kernel"].flatten(0, 2) + hidden["bias"])
    return x @ params["head"]["kernel"][0, 0] + params["head"]["bias"], params


# The paper's numbers.


def test_paper_network():
    """N4: 48 maps of 4x4, 5x5, 4x4 and 4x4, each pooled by 2; of 95 px 3x3 are left; 200; 2."""
    model = PatchClassifier(num_classes=2)
    assert (model.window, model.stride, model.halo) == (95, 1, 47)
    image = jax.ShapeDtypeStruct((1, 512, 512, 1), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.shape == (1, 512, 512, 2) and logits.dtype == jnp.float32
    shapes = {name: p["kernel"].shape for name, p in variables["params"].items()}
    assert shapes == {
        "conv_0": (4, 4, 1, 48),
        "conv_1": (5, 5, 48, 48),
        "conv_2": (4, 4, 48, 48),
        "conv_3": (4, 4, 48, 48),
        "hidden": (3, 3, 48, 200),
        "head": (1, 1, 200, 2),
    }
    kernels = 16 * 48 + (25 + 16 + 16) * 48 * 48 + 9 * 48 * 200 + 200 * 2
    count = sum(p.size for p in jax.tree.leaves(variables))
    assert count == kernels + 4 * 48 + 200 + 2 == 219_290
    # A window's own way has the very same parameters.
    patch = jax.ShapeDtypeStruct((5, 95, 95, 1), jnp.float32)
    init = functools.partial(model.init_with_output, method="classify")
    logits, others = jax.eval_shape(init, jax.random.key(0), patch)
    assert logits.shape == (5, 2) and logits.dtype == jnp.float32
    assert others == variables


# One network, two ways.


@every
def test_sliding_equals_whole(model):
    """Borders too; one side is odd, both are below the window or near it."""
    image = picture(1, 9, 6, 3)
    variables = initialised(model, image)
    want = jax.jit(functools.partial(sliding_window, model))(variables, image)
    equal(jax.jit(model.apply)(variables, image), want)


@pytest.mark.slow
def test_gradients_of_sliding_and_whole_are_equal():
    """More windows than are done at a time, and of more than one picture."""
    model = NETS["odd"]
    image, weight = picture(2, 16, 4, 3), picture(2, 16, 4, 3, seed=1)
    variables = initialised(model, image)

    def run(function):
        def loss(variables, image):
            logits = function(variables, image)
            return (logits * weight).sum(), logits

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, image)

    gradient, whole = run(model.apply)
    theirs, slid = run(functools.partial(sliding_window, model))
    equal(whole, slid)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(theirs), strict=True
    ):
        assert a.any(), path
        equal(a, b, message=jax.tree_util.keystr(path))


@every
def test_equals_the_torch_twin(peer, model):
    """The whole image here, window after window there; all parameters' gradients."""
    torch = peer("torch")
    image = picture(1, 6, 7, 3)
    variables = initialised(model, image)
    windows = cut(model, image)
    want, leaves = twin(torch, model, variables, windows)
    weight = picture(1, 6, 7, model.num_classes, seed=1)
    (want * torch.from_numpy(weight).reshape(want.shape)).sum().backward()

    @jax.jit
    def run(variables):
        def loss(variables):
            logits = model.apply(variables, image)
            return (logits * weight).sum(), logits

        return jax.grad(loss, has_aux=True)(variables)

    gradient, logits = run(variables)
    equal(logits.reshape(want.shape), want.detach())
    equal(
        jax.jit(functools.partial(model.apply, method="classify"))(variables, windows),
        want.detach(),
    )
    theirs = jax.tree.map(lambda p: p.grad.numpy(), leaves)
    for (path, got), expected in zip(
        jax.tree_util.tree_leaves_with_path(gradient["params"]),
        jax.tree.leaves(theirs),
        strict=True,
    ):
        assert got.any(), jax.tree_util.keystr(path)
        equal(got, expected, message=jax.tree_util.keystr(path))


@pytest.mark.parametrize(("size", "channels"), [((1, 1), 3), ((1, 5), 1), ((2, 33), 3)])
def test_takes_any_size(size, channels):
    """Also far smaller than the window: NumPy's `reflect` says what is seen there."""
    model = NETS["deep"]
    image = picture(1, *size, channels)
    variables = initialised(model, image)
    logits = jax.jit(model.apply)(variables, image)
    classify = jax.jit(functools.partial(model.apply, method="classify"))
    want = classify(variables, cut(model, image))
    equal(logits, want.reshape(1, *size, model.num_classes))


# As a pure function.


def test_bfloat16_computes_and_keeps_float32_parameters():
    image = picture(2, 16, 16, 3)
    model = NETS["odd"].clone(dtype="bfloat16")
    variables = initialised(model, image)
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jax.jit(model.apply)(variables, image)
    assert logits.dtype == jnp.float32
    want = jax.jit(NETS["odd"].apply)(variables, image)
    assert 1e-4 < np.abs(logits - want).max() / np.abs(want).max() < 0.03
    # Also inside: only the head is float32.
    equations = jax.make_jaxpr(model.apply)(variables, image).eqns
    made = [e.outvars[0].aval.dtype for e in equations if "conv_general" in e.primitive.name]
    assert made == 3 * [jnp.bfloat16] + [jnp.float32]


def test_one_trace_a_shape_and_training_is_no_different():
    traces = []

    @functools.partial(jax.jit, static_argnames="train")
    def apply(variables, image, train):
        traces.append(image.shape)
        return NETS["full"].apply(variables, image, train=train)

    variables = initialised(NETS["full"], picture(1, 8, 8, 1))
    for size in (8, 12, 8, 12):
        image = picture(1, size, size, 1, seed=size)
        np.testing.assert_array_equal(
            apply(variables, image, train=True), apply(variables, image, train=False)
        )
    assert len(traces) == 4


def test_vmap_and_pmap_equal_a_batch():
    assert jax.local_device_count() == 8
    model = NETS["odd"].clone(axis_name="i")
    image = picture(8, 1, 9, 7, 1)
    variables = initialised(model, image[0])
    want = jax.jit(model.apply)(variables, image[:, 0])
    equal(jax.jit(jax.vmap(model.apply, (None, 0)))(variables, image)[:, 0], want)
    equal(jax.pmap(model.apply, "i", in_axes=(None, 0))(variables, image)[:, 0], want)


def test_model_is_its_own_configuration():
    model = NETS["odd"]
    fields = {
        f.name: getattr(model, f.name)
        for f in dataclasses.fields(model)
        if f.name not in ("parent", "name")
    }
    assert PatchClassifier(**fields) == model and hash(PatchClassifier(**fields)) == hash(model)
    assert fields == {
        "num_classes": 3,
        "window": 15,
        "kernels": (4, 3),
        "width": 4,
        "hidden": 6,
        "pool": 2,
        "dtype": "float32",
        "axis_name": None,
    }


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"num_classes": 1}, (1, 8, 8, 1), "PatchClassifier.num_classes must be at least 2; got 1"),
        ({"width": 0}, (1, 8, 8, 1), "width must be at least 1; got 0"),
        ({"hidden": 0}, (1, 8, 8, 1), "hidden must be at least 1; got 0"),
        ({"pool": 0}, (1, 8, 8, 1), "pool must be at least 1; got 0"),
        ({"window": 0}, (1, 8, 8, 1), "window must be at least 1; got 0"),
        ({"window": 94}, (1, 8, 8, 1), r"window must be 79 or 95, with kernels .* got 94\."),
        ({"kernels": ()}, (1, 8, 8, 1), r"one number or more, each at least 1; got \(\)"),
        ({"kernels": (4, 0)}, (1, 8, 8, 1), r"each at least 1; got \(4, 0\)"),
        ({"dtype": "float16"}, (1, 8, 8, 1), "dtype must be one of float32, bfloat16"),
        ({}, (8, 8, 1), r"PatchClassifier takes a batch of float images .* float32 \(8, 8, 1\)"),
        ({}, (1, 0, 8, 1), "at least one pixel"),
    ],
)
def test_refuses(fields, shape, message):
    model = PatchClassifier(**{"num_classes": 2, **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_classify_refuses_another_window():
    model = NETS["odd"]
    variables = initialised(model, picture(1, 4, 4, 1))
    with pytest.raises(ValueError, match=r"classify takes 15 px squared; got \(15, 17\)"):
        model.apply(variables, picture(1, 15, 17, 1), method="classify")
    with pytest.raises(ValueError, match="uint8"):
        model.apply(variables, np.zeros((1, 15, 15, 1), np.uint8), method="classify")


@pytest.mark.slow
def test_learns_one_batch_by_heart():
    model = NETS["odd"].clone(width=16, hidden=64)
    rng = np.random.default_rng(0)
    image = picture(2, 8, 8, 1)
    label = rng.integers(0, 3, (2, 8, 8))
    variables = initialised(model, image)

    def loss(params):
        logits = model.apply(params, image, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    _, losses = descend(loss, variables, rate=1e-2, steps=200)
    assert losses[0] > 0.9 and losses[-1] < 0.05
