import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dense_nets import Small, step
from support import descend, equal, initialised, picture
from zoo.models import FCDenseNet56, FCDenseNet67, FCDenseNet103, tiramisu
from zoo.train import fields


@pytest.mark.parametrize(
    ("network", "count", "layers"),
    [(FCDenseNet56, 1_376_795, 56), (FCDenseNet67, 3_463_243, 67), (FCDenseNet103, 9_322_091, 103)],
)
def test_paper_networks(network, count, layers):
    model = network(num_classes=11)
    image = jax.ShapeDtypeStruct((1, 360, 480, 3), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.shape == (1, 360, 480, 11) and logits.dtype == jnp.float32
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == count
    assert sum(leaf.ndim == 4 for leaf in leaves) == layers
    assert model.stride == 32 and model.dropout_rate == 0.2


@pytest.mark.slow
def test_starts_as_he_uniform():
    init = jax.jit(Small(features=48, growth_rate=16, blocks=(2, 1)).init)
    variables = init(jax.random.key(0), np.ones((1, 4, 4, 3), np.float32))
    first, second = (
        np.asarray(variables["params"]["down_0"][f"layer_{i}"]["kernel"]).ravel() for i in (0, 1)
    )
    assert abs(np.corrcoef(first, second[: first.size])[0, 1]) < 0.05
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        if path[-1].key != "kernel":
            assert (leaf == (path[-1].key == "scale")).all()
            continue
        limit = np.sqrt(6 / np.prod(leaf.shape[:3]))
        name = jax.tree_util.keystr(path)
        assert 0.9 * limit < np.abs(leaf).max() <= limit, name
        np.testing.assert_allclose(leaf.std(), limit / np.sqrt(3), rtol=0.15, err_msg=name)


def test_init_draws_a_blocks_kernels_at_once():
    # A draw for each of 100 kernels took XLA most of the time of `init`.
    model, image = Small(blocks=(5, 5, 5)), np.ones((1, 8, 8, 3), np.float32)
    draws = str(jax.make_jaxpr(model.init)(jax.random.key(0), image)).count("random_bits")
    assert 1 < draws <= 5 + 4 * 2 + 2  # Blocks, transitions of two levels, first and last.


def test_dropout_is_drawn_anew_for_each_layer():
    model = Small(dropout_rate=0.5)
    image = picture(1, 8, 8, 3)
    variables = initialised(model, image)

    @jax.jit
    def maps(seed):
        rngs = {"dropout": jax.random.key(seed)}
        _, seen = model.apply(
            variables, image, train=True, rngs=rngs, mutable=True, capture_intermediates=True
        )
        return seen["intermediates"]["down_0"]["__call__"][0][0]

    first, again, other = (np.asarray(maps(seed)[..., 5:] == 0) for seed in (0, 0, 1))
    assert (first == again).all() and 0.3 < first.mean() < 0.7
    for a, b in [(first, other), (first[..., :3], first[..., 3:])]:
        assert 0.3 < (a != b).mean() < 0.7


@pytest.mark.parametrize("rate", [0.2, 0.5, 1e-9])
def test_dropout_keeps_its_share(rate):
    kept = np.asarray(tiramisu._draw(jax.random.key(0), rate, (3, 1, 101, 333)))
    assert kept.shape == (3, 1, 101, 333) and kept.dtype == bool
    # Both halves of the 32 bits they come from, each within five deviations.
    for half in (kept.ravel()[::2], kept.ravel()[1::2]):
        assert abs(half.mean() - (1 - rate)) < 5 * (rate / half.size) ** 0.5 + 2**-16


@pytest.mark.slow
def test_statistics_move_in_training_only():
    image = picture(2, 6, 7, 1)
    for statistics in ("running", "batch"):
        model = Small(eval_statistics=statistics, dropout_rate=0.0)
        variables = initialised(model, image)
        before, weight = variables["batch_stats"], np.ones((2, 6, 7, 3), np.float32)
        _, (_, after) = jax.jit(step(model, image, weight, train=False))(variables)
        jax.tree.map(np.testing.assert_array_equal, after, before)
    _, (_, after) = jax.jit(step(model, image, weight))(variables)
    moved = jax.tree.map(lambda a, b: bool((a != b).all()), after, before)
    assert all(jax.tree.leaves(moved))


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_images_do_not_see_each_other_in_evaluation(statistics):
    model = Small(eval_statistics=statistics)
    image = picture(3, 9, 6, 3) * np.array([1, 5, 0], np.float32)[:, None, None, None]
    variables = initialised(model, image)
    apply = jax.jit(model.apply)
    whole = apply(variables, image)
    for i in range(3):
        equal(apply(variables, image[i : i + 1]), whole[i : i + 1])
    assert np.isfinite(whole).all()


@pytest.mark.slow
def test_batch_statistics_of_one_image_are_those_of_training():
    model = Small(eval_statistics="batch", dropout_rate=0.0)
    image, weight = picture(1, 9, 6, 3), np.ones((1, 9, 6, 3), np.float32)
    variables = initialised(model, image)
    logits = jax.jit(model.apply)(variables, image)
    equal(logits, jax.jit(step(model, image, weight))(variables)[1][0])
    running = jax.jit(model.clone(eval_statistics="running").apply)(variables, image)
    assert np.abs(logits - running).max() > 0.1 * np.abs(running).max()


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize(("size", "channels"), [((1, 1), 3), ((5, 7), 1), ((11, 4), 3)])
def test_takes_any_size(size, channels, statistics):
    model = Small(eval_statistics=statistics)
    image = picture(1, *size, channels)
    variables = initialised(model, image)
    logits = jax.jit(model.apply)(variables, image)
    assert logits.shape == (1, *size, 3) and np.isfinite(logits).all()


@pytest.mark.slow
def test_running_averages_take_zeros_beyond_the_image_for_part_of_it():
    """As the tiles of a prediction do; by its own statistics it is another image."""
    image = picture(1, 9, 6, 3)
    larger = np.pad(image, ((0, 0), (0, 3), (0, 2), (0, 0)))
    for statistics in ("running", "batch"):
        model = Small(eval_statistics=statistics)
        variables = initialised(model, image)
        logits = jax.jit(model.apply)(variables, image)
        padded = jax.jit(model.apply)(variables, larger)[:, :9, :6]
        away = np.abs(logits - padded).max() / np.abs(logits).max()
        assert away < 1e-6 if statistics == "running" else away > 1e-3


@pytest.mark.parametrize("blocks", [(2,), (1, 2), (1, 1, 1)])
def test_halo_is_how_far_a_pixel_sees(blocks):
    model = Small(blocks=blocks, features=2, growth_rate=2)
    side = 4 * model.stride + 2 * model.halo
    image = np.random.default_rng(0).uniform(size=(8, side, side, 1)).astype(np.float32)
    # Positive weights: nothing cancels and no ReLU is dead.
    variables = jax.tree.map(jnp.abs, initialised(model, image))
    variables["batch_stats"] = jax.tree.map(lambda v: v * 0 + 1e-2, variables["batch_stats"])

    @jax.jit
    def reach(y, x):
        """Rows above and below and columns left and right that a pixel's gradient touches."""
        gradient = jax.grad(lambda image: model.apply(variables, image)[:, y, x].sum())(image)
        touched = (gradient != 0).any((0, 3))
        rows, columns = touched.any(1), touched.any(0)
        first, last = jnp.argmax, lambda a: side - 1 - jnp.argmax(a[::-1])
        return y - first(rows), last(rows) - y, x - first(columns), last(columns) - x

    centre = side // 2 // model.stride * model.stride
    assert max(max(reach(at, at)) for at in centre + np.arange(model.stride)) == model.halo


@pytest.mark.slow
def test_bfloat16_computes_and_keeps_float32_parameters():
    image, weight = picture(2, 8, 8, 3), picture(2, 8, 8, 3, seed=1)
    model = Small(dtype="bfloat16", dropout_rate=0.0)
    variables = initialised(model, image)
    (gradient, _), (logits, after) = jax.jit(step(model, image, weight))(variables)
    assert {v.dtype for v in jax.tree.leaves((gradient, after))} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    exact, (want, _) = jax.jit(step(model.clone(dtype="float32"), image, weight))(variables)
    assert 1e-4 < np.median(np.abs(logits - want)) / np.abs(want).max() < 0.02
    sizes = [np.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(t))) for t in (gradient, exact[0])]
    np.testing.assert_allclose(*sizes, rtol=0.1)
    equations = jax.make_jaxpr(model.apply)(variables, image).eqns
    made = [e.outvars[0].aval.dtype for e in equations if "conv_general" in e.primitive.name]
    assert made[-1] == jnp.float32 and set(made[:-1]) == {jnp.dtype("bfloat16")}


def test_model_is_its_own_configuration():
    model = FCDenseNet56(num_classes=11)
    kept = json.loads(json.dumps(fields.encode(model, "model")))
    assert fields.decode(kept, "model") == model and hash(model) == hash(FCDenseNet56(11))
    assert kept["class"] == "zoo.models.tiramisu.FCDenseNet" and kept["growth_rate"] == 12
    assert {f.name for f in dataclasses.fields(model)} - {"parent", "name"} == {
        "num_classes", "growth_rate", "blocks", "features", "dtype", "dropout_rate",
        "eval_statistics", "axis_name",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "shape", "message"),
    [
        ({"num_classes": 1}, (1, 8, 8, 1), "FCDenseNet.num_classes must be at least 2; got 1"),
        ({"growth_rate": 0}, (1, 8, 8, 1), "growth_rate must be at least 1; got 0"),
        ({"blocks": ()}, (1, 8, 8, 1), r"one number or more, each at least 1; got \(\)"),
        ({"blocks": (2, 0)}, (1, 8, 8, 1), r"each at least 1; got \(2, 0\)"),
        ({"features": 0}, (1, 8, 8, 1), "features must be at least 1; got 0"),
        ({"dropout_rate": 1.0}, (1, 8, 8, 1), r"dropout_rate must be in \[0, 1\); got 1.0"),
        ({"dtype": "float16"}, (1, 8, 8, 1), "dtype must be one of float32, bfloat16"),
        ({"eval_statistics": "image"}, (1, 8, 8, 1), "must be one of running, batch; got 'image'"),
        ({}, (8, 8, 1), r"takes a batch of float images \[b, h, w, c\]"),
        ({}, (1, 0, 8, 1), "at least one pixel"),
    ],
)
def test_refuses(wrong, shape, message):
    model = FCDenseNet56(**({"num_classes": 3} | wrong))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.slow
def test_learns_one_batch_by_heart():
    model = Small(features=8, growth_rate=8, blocks=(2, 2), dropout_rate=0.0)
    image = picture(2, 8, 8, 1)
    label = np.random.default_rng(0).integers(0, 3, (2, 8, 8))
    variables = initialised(model, image)

    def loss(params):
        logits, _ = model.apply(
            {**variables, "params": params}, image, train=True, mutable="batch_stats"
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    _, losses = descend(loss, variables["params"], rate=1e-2, steps=200)
    assert losses[0] > 0.9 and losses[-1] < 0.05
