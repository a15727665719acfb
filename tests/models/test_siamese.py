import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.models import AlignedEncoder, ResidualEncoder, SiameseEncoder, SiameseVerifier
from zoo.train import fields

SMALL = ResidualEncoder(features=5, width=4, depth=2)
ENCODERS = {"course": SiameseEncoder(features=5, width=4), "residual": SMALL}


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def initialised(model, *inputs):
    """Variables drawn by NumPy: `init` takes seconds to compile."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        low, high = {"scale": (0.8, 1.2), "var": (0.8, 1.2)}.get(path[-1].key, (-0.3, 0.5))
        return jnp.asarray(rng.uniform(low, high, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("side", [28, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_parameters_by_hand(side, channels):
    """2x2 kernels: c*4*64 + 64, 64*4*64 + 64, then 64*48 + 48 whatever the picture's size."""
    x = jnp.zeros((1, side, side, channels))
    encoder = SiameseEncoder()
    want = channels * 4 * 64 + 64 + 64 * 4 * 64 + 64 + 64 * 48 + 48
    assert size(jax.eval_shape(encoder.init, jax.random.key(0), x)) == want
    verifier = jax.eval_shape(SiameseVerifier(encoder).init, jax.random.key(0), x, x)
    assert size(verifier) == want + 2  # One dense unit: a weight and a bias.
    if channels == 1:
        assert want == 19_888


def test_residual_parameters_by_hand():
    """3x3 kernels without bias, norms of scale and shift, a 1x1 shortcut where it widens."""
    w, c, d = 4, 1, 5
    first = 9 * c * w
    stage1 = 2 * 9 * w * w + 2 * 2 * w
    stage2 = 9 * w * 2 * w + 9 * 2 * w * 2 * w + w * 2 * w + 2 * w + 2 * 2 * w
    head = 2 * 2 * w + 2 * w * d + d
    variables = jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, 8, 8, c)))
    assert size(variables["params"]) == first + stage1 + stage2 + head


def test_the_course_network_is_the_one_of_torch(peer, variant):
    """SAME with a 2x2 kernel pads below and to the right alone."""
    torch = peer("torch")
    functional = torch.nn.functional
    x = images(2, 7, 9, 1)
    encoder = SiameseEncoder()
    variables = initialised(encoder, x)
    p = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), variables["params"])
    y = torch.from_numpy(x).permute(0, 3, 1, 2)
    for name in ("Conv_0", "Conv_1"):
        y = functional.pad(y, (0, 1, 0, 1))
        y = functional.conv2d(y, p[name]["kernel"].permute(3, 2, 0, 1), p[name]["bias"]).relu()
        y = functional.max_pool2d(y, 2, ceil_mode=True)
    want = y.mean((2, 3)) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    got = variant(encoder.apply)(variables, x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (17, 5)])
@pytest.mark.parametrize("name", ENCODERS)
def test_any_size_is_embedded_with_a_finite_gradient(name, shape, channels):
    encoder = ENCODERS[name].clone(normalize=True)
    x = images(3, *shape, channels)
    variables = initialised(encoder, x)
    y = jax.jit(encoder.apply)(variables, x)
    assert y.shape == (3, 5) and y.dtype == jnp.float32
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(encoder.apply(v, x)[:, 0])))(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", ENCODERS)
def test_normalize_is_off_unless_asked_for(name):
    encoder = ENCODERS[name]
    x = images(4, 8, 8, 1)
    variables = initialised(encoder, x)
    plain = np.asarray(jax.jit(encoder.apply)(variables, x), np.float64)
    lengths = np.linalg.norm(plain, axis=1)
    assert np.abs(lengths - 1).max() > 0.01
    unit = jax.jit(encoder.clone(normalize=True).apply)(variables, x)
    np.testing.assert_allclose(unit, plain / lengths[:, None], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e18])
def test_normalize_keeps_value_and_gradient_finite_at_any_length(scale):
    encoder = SiameseEncoder(features=3, width=2, normalize=True)
    x = images(1, 1, 1, 1)
    variables = initialised(encoder, x)
    variables["params"]["Dense_0"]["bias"] = jnp.array([3.0, 0.0, -4.0]) * scale
    variables["params"]["Dense_0"]["kernel"] = jnp.zeros((2, 3))
    value, gradient = jax.value_and_grad(lambda v: encoder.apply(v, x)[0, 0])(variables)
    np.testing.assert_allclose(value, 0.6 if scale else 0.0, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("x", [np.zeros((8, 8, 1), np.float32), np.zeros((1, 8, 8, 1), np.uint8)])
@pytest.mark.parametrize("encoder", [SiameseEncoder(), SMALL, AlignedEncoder(widths=())])
def test_what_is_no_batch_of_float_pictures_is_refused(encoder, x):
    """A rank of 3 was taken for a picture without a batch, and bytes were taken as they are."""
    name = type(encoder).__name__
    words = rf"{name} takes a batch of float images \[b, h, w, c\]; got {x.dtype} "
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(encoder.init, jax.random.key(0), x)


@pytest.mark.slow
def test_dropout_is_drawn_in_training_alone():
    encoder, x = SiameseEncoder(features=5, width=8), images(2, 8, 8, 1)
    variables = initialised(encoder, x)
    apply = functools.partial(encoder.apply, variables, x)
    np.testing.assert_array_equal(apply(), apply())
    one, other = (apply(train=True, rngs={"dropout": jax.random.key(k)}) for k in (1, 2))
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("compare", ["euclidean", "absolute"])
def test_the_gradient_of_shared_weights_is_the_sum_of_both_branches(compare):
    verifier = SiameseVerifier(ENCODERS["course"], compare=compare)
    x, y = images(4, 8, 8, 1), images(4, 8, 8, 1, seed=1)
    variables = initialised(verifier, x, y)
    assert set(variables["params"]) == {"encoder", "head"}

    def verdict(first, second):
        """The logits with a tree of parameters for each branch."""
        embedded = [
            verifier.apply({"params": p}, z, method="embed") for p, z in ((first, x), (second, y))
        ]
        return verifier.apply({"params": first}, *embedded, method="verdict").sum()

    whole = jax.jit(jax.grad(lambda p: verifier.apply({"params": p}, x, y).sum()))
    whole, params = whole(variables["params"]), variables["params"]
    parts = jax.jit(jax.grad(verdict, argnums=(0, 1)))(params, params)
    trees = [whole["encoder"], *(part["encoder"] for part in parts)]
    for got, one, other in zip(*map(jax.tree.leaves, trees), strict=True):
        np.testing.assert_allclose(got, one + other, rtol=1e-4, atol=1e-5)
        assert np.abs(one).max() > 1e-3 and np.abs(other).max() > 1e-3


@pytest.mark.slow
def test_the_verdict_is_a_dense_unit_on_the_distance(variant):
    x, y = images(5, 8, 8, 1), images(5, 8, 8, 1, seed=1)
    encoder = ENCODERS["course"]
    for compare in ("euclidean", "absolute"):
        verifier = SiameseVerifier(encoder, compare=compare)
        variables = initialised(verifier, x, y)
        p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
        f, g = (np.asarray(encoder.apply({"params": p["encoder"]}, z), np.float64) for z in (x, y))
        seen = np.abs(f - g)
        if compare == "euclidean":
            seen = np.linalg.norm(f - g, axis=1, keepdims=True)
        want = (seen @ p["head"]["kernel"] + p["head"]["bias"])[:, 0]
        got = variant(verifier.apply)(variables, x, y)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variant(verifier.apply)(variables, y, x), got, rtol=1e-5)


@pytest.mark.parametrize("compare", ["euclidean", "absolute"])
@pytest.mark.parametrize("seed", range(4))
def test_far_means_different_from_the_start(compare, seed):
    """Else training may end with the logit of "same" growing with the distance."""
    verifier, x = SiameseVerifier(ENCODERS["course"], compare=compare), jnp.zeros((1, 2, 2, 1))
    variables = jax.jit(verifier.init)(jax.random.key(seed), x, x)
    near, far = jnp.full((1, 5), 0.1), jnp.full((1, 5), 1.0)
    logits = [verifier.apply(variables, 0 * y, y, method="verdict")[0] for y in (near, far)]
    assert logits[1] < logits[0] < 0.01


def test_a_pair_of_equal_pictures_has_a_finite_gradient():
    verifier, x = SiameseVerifier(ENCODERS["course"]), images(2, 8, 8, 1)
    variables = initialised(verifier, x, x)
    gradient = jax.jit(jax.grad(lambda v: verifier.apply(v, x, x).sum()))(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_batch_norm_sees_both_branches():
    verifier = SiameseVerifier(SMALL)
    x = images(8, 8, 8, 1)
    variables = initialised(verifier, x[:4], x[4:])
    _, both = verifier.apply(variables, x[:4], x[4:], train=True, mutable="batch_stats")
    _, whole = SMALL.apply(
        {k: v["encoder"] for k, v in variables.items()}, x, train=True, mutable="batch_stats"
    )
    got, want = both["batch_stats"]["encoder"], whole["batch_stats"]
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    "encoder",
    [SMALL, AlignedEncoder(features=5, widths=(4,), dropout_rate=0.0)],
    ids=["residual", "aligned"],
)
def test_batch_norm_is_shared_over_the_axis(encoder):
    """Two halves that see each other's statistics are the whole."""
    x = images(8, 8, 8, 1) + np.arange(8)[:, None, None, None]  # The halves' means differ.
    variables = initialised(encoder, x)

    def apply(encoder, x):
        return encoder.apply(variables, x, train=True, mutable="batch_stats")

    want, whole = jax.jit(functools.partial(apply, encoder))(x)
    half = jax.vmap(functools.partial(apply, encoder.clone(axis_name="a")), axis_name="a")
    got, halves = jax.jit(half)(x.reshape(2, 4, 8, 8, 1))
    np.testing.assert_allclose(got.reshape(8, 5), want, rtol=1e-4, atol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (halves, whole)), strict=True):
        np.testing.assert_allclose(a, np.stack([b, b]), rtol=1e-5, atol=1e-6)


def test_fields_of_the_encoder_within_are_set():
    verifier = fields.set_everywhere(SiameseVerifier(SMALL), "axis_name", "devices")
    assert verifier.encoder.axis_name == "devices" and SMALL.axis_name is None


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            SiameseEncoder(dropout_rate=1.5),
            r"SiameseEncoder.dropout_rate must be in \[0, 1\); got 1.5",
        ),
        (SiameseEncoder(dtype="float16"), "SiameseEncoder.dtype must be one of float32, bfloat16"),
        (SiameseEncoder(width=0), "SiameseEncoder.width must be at least 1; got 0"),
        (ResidualEncoder(blocks=0), "ResidualEncoder.blocks must be at least 1; got 0"),
        (ResidualEncoder(depth=0), "ResidualEncoder.depth must be at least 1; got 0"),
        (
            AlignedEncoder(widths=(4, 0)),
            r"AlignedEncoder.widths must be numbers of at least 1; got \(4, 0\)",
        ),
        (
            AlignedEncoder(shrunk=(0,), orientations=4),
            "AlignedEncoder.shrunk must be one number or",
        ),
    ],
)
def test_impossible_fields_are_named(encoder, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def test_bad_input_is_named():
    x = jnp.zeros((1, 8, 8, 1))
    with pytest.raises(ValueError, match=r"in \('euclidean', 'absolute'\); got 'cosine'"):
        SiameseVerifier(ENCODERS["course"], compare="cosine").init(jax.random.key(0), x, x)
    with pytest.raises(ValueError, match=r"one shape; got \(1, 8, 8, 1\), \(1, 4, 8, 1\)"):
        SiameseVerifier(ENCODERS["course"]).init(jax.random.key(0), x, x[:, :4])


@pytest.mark.parametrize("name", ENCODERS)
def test_bfloat16_computes_near_float32_and_returns_it(name):
    encoder, x = ENCODERS[name], images(4, 8, 8, 1)
    variables = initialised(encoder, x)
    want = jax.jit(encoder.apply)(variables, x)
    got = jax.jit(encoder.clone(dtype="bfloat16").apply)(variables, x)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())
