import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import equal, initialised, picture
from zoo.models import MaxUnpoolNet

# The paper's numbers.

# VGG16's convolutions, and their mirror image: inputs and outputs.
ENCODER = [
    (3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512),
    (512, 512), (512, 512), (512, 512), (512, 512), (512, 512),
]  # fmt: skip
DECODER = [
    (512, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 256), (256, 256), (256, 256),
    (256, 128), (128, 128), (128, 64), (64, 64), (64, 11),
]  # fmt: skip


def test_paper_network():
    model = MaxUnpoolNet(num_classes=11)
    assert (model.stride, model.halo) == (32, 211)
    image = jax.ShapeDtypeStruct((1, 360, 480, 3), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.shape == (1, 360, 480, 11) and logits.dtype == jnp.float32
    kernels = sum(9 * n * m for n, m in ENCODER + DECODER)
    # Scale and shift behind every convolution but the last, which has a bias.
    rest = sum(2 * m for _, m in ENCODER + DECODER[:-1]) + 11
    count = sum(p.size for p in jax.tree.leaves(variables["params"]))
    assert count == kernels + rest == 29_441_419
    # The layers themselves, in the order that they run.
    names = [f"encoder_{n}" for n in range(5)] + [f"decoder_{n}" for n in reversed(range(5))]
    blocks = [variables["params"][name] for name in names]
    found = [block[f"Conv_{i}"]["kernel"] for block in blocks for i in range(len(block) // 2)]
    found.append(variables["params"]["head"]["kernel"])
    assert [kernel.shape for kernel in found] == [(3, 3, *pair) for pair in ENCODER + DECODER]


@pytest.mark.parametrize(("size", "channels"), [((1, 1), 3), ((5, 7), 1), ((33, 20), 3)])
def test_takes_any_size(size, channels):
    model = MaxUnpoolNet(num_classes=3, width=2, blocks=(1, 2))
    image = picture(1, *size, channels)
    variables = initialised(model, image)
    logits = jax.jit(model.apply)(variables, image)
    assert logits.shape == (1, *size, 3)
    assert np.isfinite(logits).all()
    larger = np.zeros((1, 36, 20, channels), np.float32)
    larger[:, : size[0], : size[1]] = image
    # Zeros below and to the right up to the next multiple of the stride are there already.
    rows, columns = size[0] + -size[0] % 4, size[1] + -size[1] % 4
    want = jax.jit(model.apply)(variables, larger[:, :rows, :columns])
    equal(logits, want[:, : size[0], : size[1]])


# The same network in PyTorch.


def remembered(places, level):
    return places


def corner(places, level):
    """Every maximum's place replaced by that of the first pixel of its block."""
    h, w = places.shape[2:]
    rows, columns = np.arange(h)[:, None], np.arange(w)
    return places * 0 + places.new_tensor(4 * w * rows + 2 * columns)


def shuffled(places, level):
    """Another place of the same block, drawn at random."""
    w = places.shape[3]
    slot = np.random.default_rng(level).integers(0, 4, tuple(places.shape))
    return corner(places, level) + places.new_tensor(slot // 2 * 2 * w + slot % 2)


def twin(torch, model, variables, image, places=remembered, *, train=False):
    """The network written in PyTorch, on copies of our variables; logits and leaves."""
    F = torch.nn.functional
    params = jax.tree.map(
        lambda p: torch.tensor(np.asarray(p)).requires_grad_(), variables["params"]
    )
    stats = jax.tree.map(lambda p: torch.tensor(np.asarray(p)), variables.get("batch_stats", {}))

    def conv(x, p):
        return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p.get("bias"), padding=1)

    def stage(x, name, count):
        for i in range(count):
            x = conv(x, params[name][f"Conv_{i}"])
            if model.norm == "batch":
                p, s = params[name][f"BatchNorm_{i}"], stats[name][f"BatchNorm_{i}"]
                x = F.batch_norm(x, s["mean"], s["var"], p["scale"], p["bias"], training=train)
            x = F.relu(x)
        return x

    _, height, width, _ = image.shape
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    stride = 2 ** len(model.blocks)
    x = F.pad(x, (0, -width % stride, 0, -height % stride))
    indices = []
    for level, count in enumerate(model.blocks):
        x, index = F.max_pool2d(stage(x, f"encoder_{level}", count), 2, return_indices=True)
        indices.append(index)
    for level in reversed(range(len(model.blocks))):
        x = F.max_unpool2d(x, places(indices[level], level), 2)
        x = stage(x, f"decoder_{level}", model.blocks[level] - (level == 0))
    x = conv(x, params["head"]).permute(0, 2, 3, 1)
    return x[:, :height, :width], params


@pytest.mark.parametrize(
    ("model", "size", "train"),
    [
        (MaxUnpoolNet(3, width=3, blocks=(2, 1, 2)), (16, 22), False),
        (MaxUnpoolNet(2, width=4, blocks=(1, 2), norm=None), (11, 16), False),
        (MaxUnpoolNet(3, width=4, blocks=(2, 1)), (12, 16), True),
    ],
    ids=["norm", "plain", "norm-train"],
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
        assert got.any(), jax.tree_util.keystr(path)
        equal(got, expected, message=jax.tree_util.keystr(path))


def test_the_places_of_every_stage_matter(peer):
    """The twin with other places at one stage is another network; ours is not that one."""
    torch = peer("torch")
    model = MaxUnpoolNet(3, width=4, blocks=(1, 2, 2))
    image = picture(1, 16, 16, 1)
    variables = initialised(model, image)
    logits = jax.jit(model.apply)(variables, image)
    equal(logits, twin(torch, model, variables, image)[0].detach())
    for places, changed in itertools.product([corner, shuffled], range(3)):

        def one(index, level, places=places, changed=changed):
            return places(index, level) if level == changed else index

        other = twin(torch, model, variables, image, one)[0].detach().numpy()
        assert np.abs(logits - other).max() > 0.05 * np.abs(logits).max(), (places, changed)


# Symmetry and reach.


@pytest.mark.parametrize("blocks", [(2,), (1, 2)])
def test_halo_is_how_far_a_pixel_sees(blocks):
    model = MaxUnpoolNet(2, width=4, blocks=blocks, norm=None)
    side = 4 * model.stride + 2 * model.halo
    side += -side % model.stride
    # Of four places one is the maximum's: it takes several pictures to meet every case.
    image, other = np.random.default_rng(0).uniform(size=(2, 32, side, side, 1)).astype(np.float32)
    # Positive weights: nothing cancels and no ReLU is dead.
    variables = jax.tree.map(jnp.abs, initialised(model, image))
    apply = jax.jit(model.apply)
    whole = apply(variables, image)

    def change(at, distance):
        """How much a pixel changes in other surroundings, from this distance on."""
        near = np.abs(np.arange(side) - at) < distance
        near = (near[:, None] & near)[:, :, None]
        logits = apply(variables, np.where(near, image, other))
        return np.abs(logits - whole)[:, at, at].max() / np.abs(whole).max()

    @jax.jit
    def reach(image, y, x):
        """Rows above and below and columns left and right that a pixel's gradient touches."""
        gradient = jax.grad(lambda image: model.apply(variables, image)[:, y, x].sum())(image)
        touched = (gradient != 0).any((0, 3))
        rows, columns = touched.any(1), touched.any(0)
        first, last = jnp.argmax, lambda a: side - 1 - jnp.argmax(a[::-1])
        return y - first(rows), last(rows) - y, x - first(columns), last(columns) - x

    centre = side // 2 // model.stride * model.stride
    phases = centre + np.arange(model.stride)  # One pixel of each.
    assert max(change(at, model.halo + 1) for at in phases) <= 1e-6
    assert max(change(at, model.halo) for at in phases) > 1e-4
    # On the lowest level nothing is between pooling and un-pooling: what else is in the block of a
    # maximum decides on its place alone, and a gradient does not see that.
    found = np.max([reach(image, at, at) for at in phases])
    assert found == model.halo - model.stride // 2


def test_translation_and_tiles_with_a_halo_equal_the_whole():
    model = MaxUnpoolNet(3, width=4, blocks=(2, 2))
    assert (model.stride, model.halo) == (4, 15)
    image = picture(1, 64, 64, 2)
    variables = initialised(model, image)
    apply = jax.jit(model.apply)
    whole = apply(variables, image)
    equal(apply(variables, image[:, 8:52, 8:52])[:, 16:28, 16:28], whole[:, 24:36, 24:36])
    moved = apply(variables, np.roll(image, (4, 4), (1, 2)))
    equal(moved[:, 20:44, 20:44], whole[:, 16:40, 16:40])


# As a pure function.


def test_bfloat16_computes_and_keeps_float32_parameters():
    image = picture(2, 16, 16, 3)
    model = MaxUnpoolNet(3, width=4, blocks=(1, 2), dtype="bfloat16")
    variables = initialised(model, image)
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jax.jit(model.apply)(variables, image)
    assert logits.dtype == jnp.float32
    want = jax.jit(model.clone(dtype="float32").apply)(variables, image)
    # The median: where two values round to one a maximum may move, and some logits with it.
    assert 1e-4 < np.median(np.abs(logits - want)) / np.abs(want).max() < 0.02
    # Also inside: only the head and the statistics are float32.
    equations = jax.make_jaxpr(model.apply)(variables, image).eqns
    made = [e.outvars[0].aval.dtype for e in equations if "conv_general" in e.primitive.name]
    assert made == 5 * [jnp.bfloat16] + [jnp.float32]


def test_vmap_equals_a_batch():
    model = MaxUnpoolNet(2, width=2, blocks=(1, 1))
    image = picture(4, 1, 9, 7, 1)
    variables = initialised(model, image[0])
    want = jax.jit(model.apply)(variables, image[:, 0])
    equal(jax.jit(jax.vmap(model.apply, (None, 0)))(variables, image)[:, 0], want)


def test_model_is_its_own_configuration():
    model = MaxUnpoolNet(3, width=8, blocks=(2, 1), norm=None)
    fields = {
        f.name: getattr(model, f.name)
        for f in dataclasses.fields(model)
        if f.name not in ("parent", "name")
    }
    assert MaxUnpoolNet(**fields) == model and hash(MaxUnpoolNet(**fields)) == hash(model)
    assert fields == {
        "num_classes": 3,
        "width": 8,
        "blocks": (2, 1),
        "dtype": "float32",
        "norm": None,
        "axis_name": None,
    }


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"num_classes": 1}, (1, 8, 8, 1), "MaxUnpoolNet.num_classes must be at least 2; got 1"),
        ({"width": 0}, (1, 8, 8, 1), "width must be at least 1; got 0"),
        ({"blocks": ()}, (1, 8, 8, 1), r"one number or more, each at least 1; got \(\)"),
        ({"blocks": (2, 0)}, (1, 8, 8, 1), r"blocks must be .* each at least 1; got \(2, 0\)"),
        ({"dtype": "float16"}, (1, 8, 8, 1), "dtype must be one of float32, bfloat16"),
        ({"norm": "layer"}, (1, 8, 8, 1), "norm must be one of None, batch; got 'layer'"),
        ({}, (8, 8, 1), r"MaxUnpoolNet takes a batch of float images .* float32 \(8, 8, 1\)"),
        ({}, (1, 0, 8, 1), "at least one pixel"),
    ],
)
def test_refuses(fields, shape, message):
    model = MaxUnpoolNet(**{"num_classes": 2, "width": 2, **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
