import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from support import descend, equal, initialised, picture
from zoo.models import UNet


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


@pytest.mark.slow
def test_learns_one_batch_by_heart():
    model = UNet(3, width=8, depth=1, dropout_rate=0.0)
    rng = np.random.default_rng(0)
    image = picture(2, 16, 16, 1)
    label = rng.integers(0, 3, (2, 16, 16))
    params = initialised(model, image)

    def loss(params):
        logits = model.apply(params, image)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    _, losses = descend(loss, params, rate=1e-2, steps=300)
    assert losses[0] > 0.9 and losses[-1] < 0.05
