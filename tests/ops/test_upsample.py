import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo.ops.pool
import zoo.ops.upsample
from support import equal
from zoo.ops.upsample import bilinear_at, conv_transpose, upsample_bilinear, upsample_nearest


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("module", [zoo.ops.upsample, zoo.ops.pool], ids=lambda m: m.__name__)
def test_the_lecture_s_examples(module):
    found = doctest.testmod(module)
    assert found.attempted >= 3 and not found.failed


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize(
    ("ours", "mode"),
    [(upsample_nearest, {"mode": "nearest"}),
     (upsample_bilinear, {"mode": "bilinear", "align_corners": False})],
)  # fmt: skip
def test_upsampling_matches_torch_in_value_and_gradient(variant, peer, ours, mode, factor):
    torch = peer("torch")
    x, weight = draw(2, 3, 5, 4), draw(2, 3 * factor, 5 * factor, 4, seed=1)
    theirs = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    want = torch.nn.functional.interpolate(theirs, scale_factor=factor, **mode)
    (want * torch.from_numpy(weight).permute(0, 3, 1, 2)).sum().backward()
    function = variant(functools.partial(ours, factor=factor))
    equal(function(x), want.detach().permute(0, 2, 3, 1))
    equal(jax.grad(lambda x: (function(x) * weight).sum())(x), theirs.grad.permute(0, 2, 3, 1))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_matches_keras(keras, mode):
    x = draw(2, 4, 3, 2)
    ours = {"nearest": upsample_nearest, "bilinear": upsample_bilinear}[mode]
    equal(ours(x, 2), keras.layers.UpSampling2D(2, interpolation=mode)(x))


def test_bilinear_at_is_the_mean_of_four_weighed_by_nearness(variant):
    image = draw(5, 7, 3)
    points = np.random.default_rng(1).uniform(-1, 7, (4, 6, 2)).astype(np.float32)
    got = variant(bilinear_at)(image, points)
    assert got.shape == (4, 6, 3)
    for at in np.ndindex(4, 6):
        y, x = np.clip(points[at].astype(np.float64), 0, (4, 6))
        want = np.zeros(3)
        for i, j in np.ndindex(5, 7):
            want += max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j)) * image[i, j]
        np.testing.assert_allclose(got[at], want, atol=1e-5)
    np.testing.assert_allclose(bilinear_at(image[..., 0], points), got[..., 0], atol=1e-6)
    assert float(bilinear_at(jnp.ones((1, 1)), jnp.array([0.5, 9.0]))) == 1
    assert float(bilinear_at(jnp.arange(6.0).reshape(2, 3), jnp.array([jnp.inf, -jnp.inf]))) == 3


GRID = [
    (k, s, d, op)
    for k in range(1, 6) for s in range(1, 4) for d in (1, 2) for op in range(max(s, d))
]  # fmt: skip


def run(x, kernel, weight, *functions):
    """Of each, value, and gradients by x and kernel of the sum weighed by `weight`."""

    @jax.jit  # One program: it is compiled much faster than the parts.
    def program(x, kernel, weight):
        found = []
        for function in functions:
            out, pull = jax.vjp(function, x, kernel)
            found.append((out, *pull(weight[:, : out.shape[1], : out.shape[2]])))
        return found

    return program(x, kernel, weight)


@pytest.mark.slow
def test_conv_transpose_matches_torch(peer):
    """Explicit padding, and VALID, its 0; rows and columns take different places of the grid."""
    torch = peer("torch")
    x, weight = draw(2, 4, 3, 3), draw(2, 30, 30, 2, seed=2)
    seen, valid = set(), 0
    for i, (one, other) in enumerate(zip(GRID, GRID[::-1], strict=True)):
        size, strides, dilation, output_padding = zip(one, other, strict=True)
        padding = tuple(
            p if (n - 1) * s + (k - 1) * d + 1 - 2 * p + op >= 1 else 0
            for n, p, (k, s, d, op) in zip((4, 3), (i % 3, i // 3 % 3), (one, other), strict=True)
        )
        kernel = draw(*size, 2, 3, seed=1)
        ours = functools.partial(
            conv_transpose, strides=strides, output_padding=output_padding, dilation=dilation
        )
        forms = {padding: padding}  # Ours and theirs.
        if all(op < s for op, s in zip(output_padding, strides, strict=True)):
            forms["VALID"] = 0
        found = run(x, kernel, weight, *(functools.partial(ours, padding=p) for p in forms))
        for got, theirs in zip(found, forms.values(), strict=True):
            a = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
            b = torch.from_numpy(kernel).permute(3, 2, 0, 1).requires_grad_()
            out = torch.nn.functional.conv_transpose2d(
                a, b, None, strides, theirs, output_padding, dilation=dilation
            )
            seen_by = weight[:, : out.shape[2], : out.shape[3]]
            (out * torch.from_numpy(seen_by).permute(0, 3, 1, 2)).sum().backward()
            equal(got[0], out.detach().permute(0, 2, 3, 1))
            equal(got[1], a.grad.permute(0, 2, 3, 1))
            equal(got[2], b.grad.permute(2, 3, 1, 0))
        seen, valid = seen | set(padding), valid + len(forms) - 1
    # Once a kernel size, an output padding of 1 at stride 1 needs the dilation and is none of
    # VALID; each stands in a pair by its rows and in one by its columns.
    assert i == 64 and seen == {0, 1, 2} and valid == 65 - 2 * 5


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_conv_transpose_matches_keras(keras, padding):
    """Over the grid where Keras' layer accepts it: a stride or a dilation, not both above 1."""
    x, weight = draw(2, 4, 3, 3), draw(2, 30, 30, 2, seed=2)
    cases = [row for row in GRID if row[3] < row[1] and min(row[1:3]) == 1]
    cases += [(*row[:3], None) for row in cases if row[3] == 0]
    for k, strides, dilation, output_padding in cases:
        kernel = draw(k, k, 2, 3, seed=1)
        ours = functools.partial(
            conv_transpose, strides=strides, padding=padding, output_padding=output_padding
        )
        theirs = functools.partial(
            keras.ops.conv_transpose,
            strides=strides,
            padding=padding.lower(),
            output_padding=output_padding,
            dilation_rate=dilation,
        )
        got, want = run(x, kernel, weight, functools.partial(ours, dilation=dilation), theirs)
        for mine, other in zip(got, want, strict=True):
            equal(mine, other)
    assert len(cases) == 55


def test_conv_transpose_is_weighted_copies_that_sum():
    """By hand, in loops."""
    x, kernel = draw(1, 3, 4, 2), draw(3, 2, 5, 2, seed=1)
    want = np.zeros((1, 2 * 2 + 3, 3 * 3 + 2, 5))
    for i, j in np.ndindex(3, 4):
        copy = np.einsum("hwoc,c->hwo", kernel.astype(np.float64), x[0, i, j])
        want[0, 2 * i : 2 * i + 3, 3 * j : 3 * j + 2] += copy
    # Keras' VALID makes a side of stride 3 at least so long as its copies would be.
    got = conv_transpose(x, kernel, (2, 3), "VALID")
    equal(got[:, :, :11], want)
    assert got.shape == (1, 7, 12, 5) and not got[:, :, 11:].any()


@pytest.mark.parametrize(
    ("strides", "size"), [((2, 2), (2, 2)), ((3, 2), (3, 2)), ((2, 2), (3, 3)), ((3, 2), (4, 4))]
)
def test_copies_of_one_to_two_strides_are_a_dense_layer(strides, size):
    """The fast path compiles to no convolution, and has the values of the slow one."""
    x, kernel = draw(2, 3, 4, 5), draw(*size, 3, 5, seed=1)
    function = jax.jit(lambda x, kernel: conv_transpose(x, kernel, strides, "VALID"))
    assert "convolution" not in function.lower(x, kernel).as_text()
    wider = np.zeros((2 * strides[0] + 1, *kernel.shape[1:]), np.float32)
    wider[: size[0]] = kernel  # Rows of zeros change nothing but the path.
    slow = jax.jit(lambda x, kernel: conv_transpose(x, kernel, strides, "VALID"))
    assert "convolution" in slow.lower(x, wider).as_text()
    equal(function(x, kernel), slow(x, wider)[:, : 2 * strides[0] + size[0]])


def test_conv_transpose_maps_and_keeps_the_dtype():
    x, kernel = draw(3, 2, 4, 4, 2), draw(3, 3, 2, 2, seed=1)
    got = jax.vmap(lambda x: conv_transpose(x, kernel, 2, "SAME"))(x)
    equal(got[1], conv_transpose(x[1], kernel, 2, "SAME"))
    assert conv_transpose(jnp.asarray(x[0], jnp.bfloat16), kernel, 2, 1).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_padding": 2}, "output_padding 2 is impossible here; legal are 0, 1"),
        ({"padding": 1, "dilation": 3, "output_padding": 3}, "legal are 0, 1, 2"),
        ({"strides": 0}, "strides must be a whole number or two, at least 1; got 0"),
        ({"strides": 2.0}, "strides must be a whole number or two, at least 1; got 2.0"),
        ({"dilation": (1, 0)}, r"dilation must be .* at least 1; got \(1, 0\)"),
        ({"padding": 9}, "padding 9 leaves -9 of 9 px; take less"),
        ({"padding": "same"}, '"SAME", "VALID" or numbers; got \'same\''),
        ({"x": np.zeros((1, 4, 4, 2), int)}, "takes floats; got int64 and float64"),
        (
            {"x": np.zeros((1, 1, 1, 2)), "kernel": np.zeros((2, 2, 2, 2)), "output_padding": 0},
            "output_padding 0 leaves no pixel of 1; take more",
        ),
        ({"kernel": np.zeros((3, 3, 2, 4))}, r"takes \[b, h, w, c\] and \[kh, kw, out, c\]; got"),
    ],
)
def test_conv_transpose_refuses(change, message):
    arguments = {"x": np.zeros((1, 4, 4, 2)), "kernel": np.zeros((3, 3, 2, 2)), "strides": 2}
    with pytest.raises(ValueError, match=message):
        conv_transpose(**{**arguments, "padding": "SAME", **change})


@pytest.mark.parametrize("function", [upsample_nearest, upsample_bilinear])
@pytest.mark.parametrize(
    ("shape", "factor"), [((2, 2, 1), 2), *(((1, 2, 2, 1), n) for n in (0, 1.5))]
)
def test_upsampling_refuses(function, shape, factor):
    with pytest.raises(ValueError, match=r"takes \[b, h, w, c\] and a whole factor >= 1; got \("):
        function(np.zeros(shape), factor)


@pytest.mark.parametrize(("image", "points"), [((4,), (2,)), ((4, 4), (3,)), ((0, 4), (2,))])
def test_bilinear_at_refuses(image, points):
    with pytest.raises(ValueError, match=r"takes \[h, w\] or \[h, w, c\] and points"):
        bilinear_at(np.zeros(image), np.zeros(points))
