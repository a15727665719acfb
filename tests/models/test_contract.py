"""What every segmentation model must keep; a new model is one line in `MODELS`.

VALID convolutions change the size, so U-Net's other padding has its own tests in test_unet.py.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn

from support import equal, initialised, picture
from zoo.infer.predict import predict_logits
from zoo.models import (
    FCDenseNet56,
    FCDenseNet67,
    FCDenseNet103,
    FCN8s,
    FCN16s,
    FCN32s,
    MaxUnpoolNet,
    PatchClassifier,
    UNet,
)
from zoo.train import fields

TIRAMISU = dict(growth_rate=4, blocks=(1, 2), features=6)
# The network of each paper, whose shapes alone are looked at, and what makes it small.
MODELS = {
    "unet": (UNet, dict(width=4, depth=2)),
    "unet-norm": (functools.partial(UNet, norm="batch", down="conv"), dict(width=4, depth=2)),
    "unpool": (MaxUnpoolNet, dict(width=4, blocks=(1, 2))),
    "patch": (PatchClassifier, dict(window=17, kernels=(2, 3), width=6, hidden=8)),
    "patch-full": (
        functools.partial(PatchClassifier, pool=1),
        dict(window=7, kernels=(3, 3), width=6, hidden=8),
    ),
    "fcn32s": (FCN32s, dict(width=2)),
    "fcn16s": (FCN16s, dict(width=2)),
    "fcn8s": (FCN8s, dict(width=2)),
    "tiramisu56": (FCDenseNet56, TIRAMISU),
    "tiramisu67": (FCDenseNet67, TIRAMISU),
    "tiramisu103": (FCDenseNet103, TIRAMISU),
}
BATCH_NORM = ("unet-norm", "unpool", "tiramisu56")


# What is compiled here runs a few times: without optimization it is ready in a third of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


def small(name: str, num_classes: int = 3, **more: Any) -> nn.Module:
    build, size = MODELS[name]
    return build(num_classes=num_classes, **{**size, **more})


# What compiles takes one name of each small network: that of 56 is that of 67 and 103.
each_network = pytest.mark.parametrize(
    "name", {small(name): name for name in reversed(MODELS)}.values()
)


def shapes_of(model: nn.Module, image: jax.ShapeDtypeStruct):
    return jax.eval_shape(model.init_with_output, jax.random.key(0), image)


@functools.cache
def variables_of(model: nn.Module) -> dict:
    return initialised(model, picture(1, model.stride, model.stride, 3))


@functools.cache
def applied(model: nn.Module):
    return jit(model.apply)


# Shapes, by the abstract values alone.


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (33, 20), (64, 64)])
def test_logits_have_the_size_of_the_input(name, size):
    tiny = functools.partial(small, name)
    # The network of the paper takes seconds to trace: once.
    full = [(MODELS[name][0], 3, 21)] if size == (33, 20) else []
    for build, channels, num_classes in [*full, (tiny, 1, 2), (tiny, 3, 5)]:
        model = build(num_classes)
        image = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
        logits, variables = shapes_of(model, image)
        assert (logits.shape, logits.dtype) == ((2, *size, num_classes), jnp.float32)
        assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("num_classes", [0, 1])
def test_one_class_is_refused(name, num_classes):
    with pytest.raises(ValueError, match=f"num_classes must be at least 2; got {num_classes}"):
        shapes_of(small(name, num_classes), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((8, 8, 3), jnp.float32, r"takes a batch of float images \[b, h, w, c\]; got float32 \(8,"),
        ((1, 8, 8, 3), jnp.uint8, "takes a batch of float images .* got uint8"),
        ((1, 0, 8, 3), jnp.float32, "at least one pixel"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(name, shape, dtype, message):
    model = small(name)
    with pytest.raises(ValueError, match=message):
        shapes_of(model, jax.ShapeDtypeStruct(shape, dtype))


def test_unknown_dtype_is_refused(name):
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16; got 'float16'"):
        shapes_of(small(name, dtype="float16"), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))


def test_model_is_its_own_configuration(name):
    for model in (MODELS[name][0](num_classes=11), small(name, dtype="bfloat16")):
        values = {f: getattr(model, f) for f in fields.hints(model)}
        again = type(model)(**values)
        assert again == model and hash(again) == hash(model)
        # As experiment.json keeps it.
        assert fields.decode(fields.encode(model, "model"), "model", nn.Module) == model
        assert all(f"{f}=" in repr(model) or f"{f} =" in repr(model) for f in values)


# As a pure function.


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (7, 10)])
@each_network
def test_a_small_picture_under_vmap_and_pmap(name, size):
    """Eight pictures at once, in a batch, one by one and one a device; each the same twice."""
    model = small(name)
    variables, image = variables_of(model), picture(8, 1, *size, 3)
    want = applied(model)(variables, image[:, 0])
    assert np.isfinite(want).all() and np.ptp(want) > 0
    np.testing.assert_array_equal(applied(model)(variables, image[:, 0]), want)
    for mapped in (
        jit(jax.vmap(model.apply, (None, 0))),
        jax.pmap(model.apply, in_axes=(None, 0)),
    ):
        equal(mapped(variables, image)[:, 0], want)


@pytest.mark.slow
@each_network
def test_every_parameter_learns(name):
    model = small(name)
    variables, image = variables_of(model), picture(1, 64, 64, 3)
    weight = picture(1, 64, 64, 3, seed=1)

    @jit
    @jax.grad
    def gradient(params):
        return (model.apply({**variables, "params": params}, image) * weight).sum()

    found = jax.tree.map(lambda g: float(np.abs(g).max()), gradient(variables["params"]))
    largest = max(jax.tree.leaves(found))
    assert np.isfinite(largest)
    for path, size in jax.tree_util.tree_leaves_with_path(found):
        assert size > 1e-6 * largest, jax.tree_util.keystr(path)


@pytest.mark.slow
@each_network
def test_bfloat16_is_used_and_is_near(name):
    model = small(name)
    variables, image = variables_of(model), picture(1, 32, 32, 3)
    coarse = model.clone(dtype="bfloat16")
    want, got = applied(model)(variables, image), jit(coarse.apply)(variables, image)
    assert got.dtype == jnp.float32
    # The median: where two values round to one a maximum may move, and some logits with it.
    assert 1e-4 < np.median(np.abs(got - want)) / np.abs(want).max() < 0.03
    # All convolutions but those that make the logits.
    made = convolutions(jax.make_jaxpr(coarse.apply)(variables, image).jaxpr)
    assert made.count(jnp.bfloat16) >= len(made) - 3 > 0


def convolutions(jaxpr) -> list:
    """The types that the convolutions of a program give, those of its inner functions too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            found.append(equation.outvars[0].aval.dtype)
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            found += convolutions(inner) if hasattr(inner, "eqns") else []
    return found


@each_network
def test_one_trace_a_shape(name):
    model, traces = small(name), []
    variables = variables_of(model)

    @jit
    def apply(variables, image):
        traces.append(image.shape)
        return model.apply(variables, image)

    for side in (8, 12, 8, 12):
        apply.trace(variables, picture(1, side, side, 3, seed=side))
    assert len(traces) == 2


# Where a pixel sees.


@each_network
def test_no_pixel_sees_beyond_the_halo(name):
    model = small(name)
    side = 2 * model.halo + 3 * model.stride
    variables = jax.tree.map(jnp.abs, variables_of(model))
    image = np.random.default_rng(0).uniform(size=(1, side, side, 3)).astype(np.float32)

    @jit
    @jax.grad
    def seen(image, at):
        return model.apply(variables, image)[0, at, at].sum()

    centre = (model.halo // model.stride + 1) * model.stride
    for at in (centre, centre + model.stride - 1):
        rows, columns = (np.flatnonzero(np.any(seen(image, at)[0] != 0, (k, 2))) for k in (1, 0))
        for touched in (rows, columns):
            assert at - model.halo <= touched.min() and touched.max() <= at + model.halo
            # And a much smaller one would not do. (The tests of each model are exact.)
            assert touched.max() - touched.min() >= 2 * model.halo - 3 * model.stride


@pytest.mark.slow
@each_network
def test_tiles_with_a_halo_equal_the_whole(name):
    model = small(name)
    halo = -(-model.halo // model.stride) * model.stride  # Origins are multiples of the stride.
    inner = max(8 // model.stride, 1) * model.stride
    side = 2 * halo + 2 * inner + 3
    image, variables = picture(1, side, side, 3), variables_of(model)
    whole = applied(model)(variables, image)
    made, cut = np.full_like(whole, np.nan), inner + halo
    for y in (slice(0, cut + halo), slice(inner, None)):
        for x in (slice(0, cut + halo), slice(inner, None)):
            tile = np.asarray(applied(model)(variables, image[:, y, x]))
            rows, columns = (slice(0, cut) if s.start == 0 else slice(halo, None) for s in (y, x))
            to_rows, to_columns = (
                slice(0, cut) if s.start == 0 else slice(cut, None) for s in (y, x)
            )
            made[:, to_rows, to_columns] = tile[:, rows, columns]
    equal(made, whole)
    # And as `predict` cuts, to the end of a side that the stride does not divide.
    strip = picture(4 * halo + side, 5, 3)
    tiled = predict_logits(model, variables, strip, tile=4 * halo, overlap=2 * halo)
    equal(tiled, predict_logits(model, variables, strip, tile=None))


# Training.


@each_network
def test_statistics_move_in_training_alone(name):
    """And what dropout keeps, where there is any, is told by the key."""
    model = small(name)
    variables, image = variables_of(model), picture(2, 16, 16, 3)
    assert ("batch_stats" in variables) == (name in BATCH_NORM)

    @functools.partial(jit, static_argnames="train")
    def run(key, train):
        rngs = {"dropout": key}
        return model.apply(variables, image, train=train, mutable="batch_stats", rngs=rngs)

    old, key = variables.get("batch_stats", {}), jax.random.key(0)
    still = run(key, train=False)[1].get("batch_stats", {})
    jax.tree.map(np.testing.assert_array_equal, still, old)
    logits, stats = first = run(key, train=True)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), stats.get("batch_stats", {}), old)
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, run(key, train=True), first)
    other, _ = run(jax.random.key(1), train=True)
    assert np.any(other != logits) == hasattr(model, "dropout_rate")


@pytest.mark.slow
@each_network
def test_a_single_pixel_trains(name):
    """Batch norm's variance of it is 0."""
    model = small(name)
    variables, image = variables_of(model), picture(1, 1, 1, 3)
    weight = picture(1, 1, 1, 3, seed=1)

    @jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params):
        options = {"mutable": "batch_stats", "rngs": {"dropout": jax.random.key(0)}}
        given = {**variables, "params": params}
        logits, stats = model.apply(given, image, train=True, **options)
        return (logits * weight).sum(), stats

    (value, stats), gradient = run(variables["params"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, stats, gradient)))
    assert np.abs(gradient["head" if "head" in gradient else "score_fr"]["bias"]).max() > 0


@pytest.mark.slow
@each_network
def test_loss_halves_in_30_steps(name):
    model = small(name)
    if "dropout_rate" in {f.name for f in dataclasses.fields(model)}:
        model = model.clone(dropout_rate=0.0)
    # Fields of one class, as large as the stride: even the coarsest network can tell them.
    side = max(model.stride, 8)
    label = np.array([[[0, 1], [2, 0]], [[1, 2], [0, 1]]]).repeat(side, 1).repeat(side, 2)
    colour = np.eye(3, dtype=np.float32)[label]
    image = colour + picture(*colour.shape) / 4
    init = jit(model.init)
    variables, tx = init(jax.random.key(0), image), optax.adam(1e-2)

    def loss(params, rest):
        logits, rest = model.apply(
            {"params": params, **rest}, image, train=True, mutable="batch_stats"
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), rest

    @jit
    def step(params, rest, state):
        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(params, rest)
        updates, state = tx.update(gradient, state)
        return (optax.apply_updates(params, updates), rest, state), value

    params = variables.pop("params")
    carry, losses = (params, variables, tx.init(params)), []
    for _ in range(30):
        carry, value = step(*carry)
        losses.append(float(value))
    assert losses[-1] < losses[0] / 2


@each_network
def test_saved_and_loaded_is_equal(name, tmp_path):
    model = small(name)
    variables = variables_of(model)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "variables", variables)
        checkpointer.wait_until_finished()
        _, like = shapes_of(model, jax.ShapeDtypeStruct((1, 9, 8, 3), jnp.float32))
        loaded = checkpointer.restore(tmp_path / "variables", like)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
