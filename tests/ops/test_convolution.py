import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from support import equal, initialised, picture
from zoo.models import UNet
from zoo.models.layers import Conv
from zoo.ops.convolution import convolution

module = importlib.import_module("zoo.ops.convolution")
# What is compiled here runs once.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
NAMES = ("NHWC", "HWIO", "NHWC")
by_blocks = pytest.mark.skipif(module._OLD, reason="before JAX 0.10 there are no blocks")


@pytest.fixture
def always(monkeypatch):
    """Takes the gradient by blocks where it pays at other sizes only; a block is a few rows."""
    monkeypatch.setattr(module, "_PAYS", 0)
    monkeypatch.setattr(module, "_BLOCK", 40)
    monkeypatch.setattr(module, "_FLIPS", 0)


def conv(x, kernel, padding="SAME"):
    return convolution(x, kernel, (1, 1), padding, dimension_numbers=NAMES)


def xla(x, kernel, padding="SAME"):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NAMES)


def pulled(function, x, kernel, weight):
    """Value, and gradients by x and kernel of the sum weighed by `weight`."""

    @jit
    def program(weight):
        out, pull = jax.vjp(function, x, kernel)
        return out, *pull(weight)

    return program(weight)


@by_blocks
@pytest.mark.parametrize("size", [(3, 3), (4, 3)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 0), (1, 3))])
def test_a_kernel_larger_than_its_maps_is_not_flipped(always, size, padding):
    """As of fc6 in FCN: the gradient by the picture is that of flipped maps, of any padding."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 8, 7, 40)), rng.normal(size=(*size, 40, 30))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    assert module._heavy(x, kernel)
    out = jax.eval_shape(functools.partial(xla, padding=padding), x, kernel)
    weight = rng.normal(size=out.shape).astype(np.float32)
    functions = (functools.partial(f, padding=padding) for f in (conv, xla))
    (value, *got), (known, *want) = (pulled(f, x, kernel, weight) for f in functions)
    for g, w in zip((value, *got), (known, *want), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4 * np.abs(w).max())

    def turns(function):
        """Whether the gradient by the picture reverses the kernel, and not maps alone."""
        gradient = jit(jax.grad(lambda x, kernel: function(x, kernel, padding).sum()))
        lines = gradient.lower(x, kernel).compile().as_text().splitlines()
        reversals = [line for line in lines if " reverse(" in line]
        return any("dimensions={0,1}" in line for line in reversals)

    # JAX turns it once, and before that we did: XLA lets these two be.
    assert (turns(conv), turns(xla)) == (False, True)


def has_blocks(function, *inputs):
    return "scan" in str(jax.make_jaxpr(jax.grad(lambda *a: function(*a).sum(), 1))(*inputs))


@pytest.mark.parametrize(
    ("b", "h", "w", "k", "padding"),
    [
        (1, 9, 7, (3, 3), "SAME"),  # Three blocks of 3 rows.
        (3, 6, 5, (3, 3), "SAME"),
        (2, 8, 50, (3, 3), "VALID"),  # A row is more than a block.
        (1, 3, 3, (3, 3), "SAME"),
        (1, 12, 6, (1, 1), "SAME"),
        (2, 5, 8, (2, 2), "SAME"),  # Zeros at one end alone.
        (1, 11, 6, (2, 3), ((3, 0), (1, 2))),
    ],
)
def test_gradients_match_torch(always, peer, b, h, w, k, padding):
    torch = peer("torch")
    x, kernel = picture(b, h, w, 5), picture(*k, 5, 3, seed=1)
    pads = padding
    if isinstance(padding, str):
        pads = [((n - 1) // 2, n // 2) if padding == "SAME" else (0, 0) for n in k]
    (above, below), (left, right) = pads
    ours = lambda x, kernel: conv(x, kernel, padding)  # noqa: E731
    assert has_blocks(ours, x, kernel)
    a = torch.from_numpy(x).double().permute(0, 3, 1, 2).requires_grad_()
    c = torch.from_numpy(kernel).double().permute(3, 2, 0, 1).requires_grad_()
    out = torch.nn.functional.conv2d(torch.nn.functional.pad(a, (left, right, above, below)), c)
    want = out.detach().permute(0, 2, 3, 1)
    weight = picture(*want.shape, seed=2)
    (out * torch.from_numpy(weight).permute(0, 3, 1, 2)).sum().backward()
    out, dx, dkernel = pulled(ours, x, kernel, weight)
    equal(out, want)
    equal(dx, a.grad.permute(0, 2, 3, 1))
    equal(dkernel, c.grad.permute(2, 3, 1, 0))


@pytest.mark.parametrize(
    ("size", "k", "padding"),
    [((5, 6), (7, 7), "SAME"), ((1, 9), (2, 3), "SAME"), ((4, 3), (5, 3), ((4, 1), (0, 2)))],
)
def test_a_kernel_larger_than_the_map(size, k, padding):
    x, kernel, moves = picture(2, *size, 3), picture(*k, 3, 4, seed=1), picture(2, *size, 3, seed=2)
    program = jit(lambda x: conv(x, kernel, padding))
    assert "convolution" not in program.lower(x).as_text()
    want = xla(x, kernel, padding)
    weight = picture(*want.shape, seed=3)
    for got, expected in zip(
        pulled(lambda *both: conv(*both, padding), x, kernel, weight),
        pulled(lambda *both: xla(*both, padding), x, kernel, weight),
        strict=True,
    ):
        equal(got, expected)
    equal(jax.jvp(program, (x,), (moves,))[1], xla(moves, kernel, padding))


def test_no_place_for_a_kernel_leaves_nothing():
    assert conv(picture(1, 2, 9, 3), picture(4, 3, 3, 2), "VALID").shape == (1, 0, 7, 2)


def test_forward_mode_and_second_derivatives_match_xla(always):
    x, kernel = picture(1, 9, 7, 2), picture(3, 3, 2, 3, seed=1)
    dx, dkernel = picture(1, 9, 7, 2, seed=2), picture(3, 3, 2, 3, seed=3)

    def all_of(function):
        def loss(x, kernel):
            return jnp.sin(function(x, kernel)).sum()

        def slope(x, kernel):  # Of the gradient along a line: forward over reverse.
            return jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), (dx, dkernel))[1]

        def length(x, kernel):  # Reverse over reverse.
            return sum(jnp.sum(g**2) for g in jax.grad(loss, (0, 1))(x, kernel))

        first = jax.jvp(function, (x, kernel), (dx, dkernel))
        return jax.tree.leaves((first, slope(x, kernel), jax.grad(length, (0, 1))(x, kernel)))

    found, wanted = jit(lambda: (all_of(conv), all_of(xla)))()
    for got, want in zip(found, wanted, strict=True):
        equal(got, want)


def test_under_vmap_scan_remat_and_shard_map(always):
    x, kernel = picture(8, 2, 9, 7, 3), picture(3, 3, 3, 2, seed=1)
    weight = picture(8, 2, 9, 7, 2, seed=2)

    def gradient(x, weight):
        return jax.grad(lambda kernel: (conv(x, kernel) * weight).sum())(kernel)

    def remat(x, weight):
        return jax.grad(lambda k: (jax.checkpoint(conv)(x, k) * weight).sum())(kernel)

    by_xla = lambda x, w: jax.vjp(lambda k: xla(x, k), kernel)[1](w)[0]  # noqa: E731
    want = jit(jax.vmap(by_xla))(x, weight)
    equal(jit(jax.vmap(gradient))(x, weight), want)
    equal(jit(lambda *both: lax.map(lambda pair: gradient(*pair), both))(x, weight), want)
    equal(jit(remat)(x[0], weight[0]), want[0])
    equal(jax.pmap(gradient)(x, weight), want)
    mesh = jax.make_mesh((8,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("i")
    one = lambda x, w: gradient(x[0], w[0])[None]  # noqa: E731
    # With the check, a kernel that all devices share has the sum of their gradients.
    shared = np.broadcast_to(np.sum(want, 0), want.shape)
    for check, wanted in ((False, want), (True, shared)):
        mapped = jax.shard_map(one, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=check)
        equal(jit(mapped)(x, weight), wanted)


@by_blocks
def test_bfloat16_sums_in_float32(always):
    x, kernel = picture(1, 64, 64, 2), picture(3, 3, 2, 3, seed=1)
    weight = picture(1, 64, 64, 3, seed=2)
    x, kernel, weight = (jnp.asarray(a, jnp.bfloat16) for a in (x, kernel, weight))
    got = pulled(conv, x, kernel, weight)
    assert {g.dtype for g in got} == {jnp.dtype("bfloat16")}
    # Of the same rounded numbers; a sum of 4096 in bfloat16 would be off by more than 1/256.
    want = pulled(xla, *(a.astype(jnp.float32) for a in (x, kernel, weight)))
    for g, w in zip(got, want, strict=True):
        equal(g.astype(np.float32), w, 1 / 256)


@by_blocks
def test_where_xla_is_faster_or_the_form_is_another_it_is_left_alone(monkeypatch):
    abstract = jax.ShapeDtypeStruct

    def blocks(x, kernel, strides=(1, 1), dtype=jnp.float32, **options):
        function = lambda x, k: convolution(x, k, strides, "SAME", **options)  # noqa: E731
        return has_blocks(function, abstract(x, dtype), abstract(kernel, dtype))

    names = {"dimension_numbers": NAMES}
    large, kernel = (1, 256, 256, 64), (3, 3, 64, 64)
    assert blocks(large, kernel, **names)
    assert blocks((2, 96, 96, 64), kernel, **names)
    assert not blocks((3, 96, 96, 64), kernel, **names)
    assert blocks((8, 96, 96, 64), (3, 3, 64, 16), **names)
    assert not blocks((16, 96, 96, 64), (3, 3, 64, 16), **names)
    assert not blocks(large, (3, 3, 64, 256), **names)
    assert not blocks((1, 16, 16, 64), kernel, **names)
    assert blocks(large, kernel, **names, rhs_dilation=(1, 1), feature_group_count=1)
    assert not blocks(large, kernel, **names, rhs_dilation=(2, 2))
    assert not blocks(large, (3, 3, 1, 64), **names, feature_group_count=64)
    assert not blocks(large, kernel, (2, 2), **names)
    assert not blocks(large, (5, 5, 64, 64), **names)
    assert not blocks((1, 64, 256, 256), (64, 64, 3, 3))
    assert not blocks(large, kernel, dtype=jnp.float16, **names)
    # Flax says the same in other words.
    layer = Conv(64, (3, 3))
    variables = jax.eval_shape(layer.init, jax.random.key(0), abstract(large, jnp.float32))
    assert has_blocks(lambda x, v: layer.apply(v, x), abstract(large, jnp.float32), variables)


@by_blocks
def test_exports_with_free_sizes_and_for_other_platforms(always):
    kernel = jnp.asarray(picture(3, 3, 3, 2))
    b, h = jax.export.symbolic_shape("b, h")
    free = jax.ShapeDtypeStruct((b, h, 8, 3), jnp.float32)
    x = picture(2, 5, 8, 3)
    program = jax.export.export(jax.jit(lambda x: conv(x, kernel)))(free)
    equal(program.call(x), xla(x, kernel))
    # Elsewhere XLA's own gradient is in the program, and no loop.
    pull = jax.jit(lambda x: jax.grad(lambda k: conv(x, k).sum())(kernel))
    for platform, loops in (("cpu", True), ("cuda", False), ("tpu", False)):
        text = jax.export.export(pull, platforms=[platform])(x).mlir_module()
        assert ("stablehlo.while" in text) == loops


def test_a_whole_network_has_the_same_gradient(always, monkeypatch):
    model, image = UNet(3, width=2, depth=1, dropout_rate=0.0), picture(1, 16, 12, 3)
    weight, params = picture(1, 16, 12, 3, seed=1), initialised(model, image)

    def loss(params):
        return (model.apply(params, image, train=True) * weight).sum()

    got = jit(jax.grad(loss))(params)
    monkeypatch.setattr(module, "_gains", lambda *_: False)
    jax.tree.map(equal, got, jit(jax.grad(lambda params: loss(params)))(params))
