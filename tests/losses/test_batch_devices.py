import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from batch_triplets import LOSSES, B, assert_equal, compiled, each_loss, example, run
from zoo.losses.reduce import mean


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "hard"])
def test_a_partition_of_the_anchors_adds_up(name):
    x, labels = example()
    valid = np.arange(B) % 7 != 3
    want = compiled(name)(x, labels, valid)

    @jax.jit
    @jax.value_and_grad
    def parts(x):
        order = np.random.default_rng(0).permutation(B).astype(np.int32)
        pieces = [
            LOSSES[name](x, labels, margin=0.5, valid=valid, anchors=piece)
            for piece in np.split(order, [3, 4, 11])
        ]
        assert [len(values) for values, _ in pieces] == [3, 1, 7, 9]
        return mean(*map(jnp.concatenate, zip(*pieces, strict=True)))

    assert_equal(parts(x), want, 2e-6)


def on_eight(name):
    """Value and gradient, each device with its eighth of the batch and of the anchors."""
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(AxisType.Auto,))

    def step(x, labels, valid):
        def sums(x):
            together = functools.partial(jax.lax.all_gather, axis_name="devices", tiled=True)
            anchors = jax.lax.axis_index("devices") * len(x) + jnp.arange(len(x))
            values, weights = LOSSES[name](
                together(x), together(labels), margin=0.5, valid=together(valid), anchors=anchors
            )
            return values.sum(), weights.sum()

        value, pull, weight = jax.vjp(sums, x, has_aux=True)
        weight = jax.lax.psum(weight, "devices")
        return jax.lax.psum(value, "devices") / weight, pull(jnp.ones(()) / weight)[0]

    rows, whole = PartitionSpec("devices"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            step, mesh=mesh, in_specs=(rows,) * 3, out_specs=(whole, rows), check_vma=False
        )
    )


@each_loss
def test_eight_devices_are_one(name):
    rng = np.random.default_rng(0)
    x, labels = example(b=64, d=6)
    labels[:16] = 1  # Two devices hold this class alone.
    valid = rng.random(64) < 0.8
    valid[-8:] = False  # And the last nothing but padding.
    x[~valid] = np.nan
    assert_equal(on_eight(name)(x, labels, valid), run(name, x, labels, valid))


def flops(jaxpr) -> int:
    """Of a program, a device's; XLA's count takes a loop's body once, which is here its trips."""
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "cond":
            total += max(flops(branch.jaxpr) for branch in params["branches"])
        elif name == "while":  # Over the positives of an anchor, 4 at a time: 7 take 2 trips.
            total += 2 * flops(params["body_jaxpr"].jaxpr)
        elif "jaxpr" in params:
            inner = params["jaxpr"]
            total += params.get("length", 1) * flops(getattr(inner, "jaxpr", inner))
        elif name == "dot_general":
            (columns, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * np.prod([shape[c] for c in columns])
        elif name in ("add", "sub", "mul", "div", "max", "square", "sqrt", "integer_pow"):
            total += equation.outvars[0].aval.size
        elif name.startswith("reduce_"):
            total += equation.invars[0].aval.size
    return int(total)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "hard"])
def test_work_and_memory_fall_with_the_devices(name):
    b, d = 4096, 128
    shapes = [jax.ShapeDtypeStruct(*s) for s in (((b, d), "f4"), ((b,), "i4"), ((b,), bool))]
    traced = [f.trace(*shapes) for f in (compiled(name), on_eight(name))]
    whole, part = (flops(t.jaxpr.jaxpr) for t in traced)
    # A difference, a square and a sum for the distances; where rows are near, the gradient's two
    # sums of weighted differences take 3 each too.
    assert 9 * b * b * d < whole < 9.5 * b * b * d
    assert part <= whole / 6
    one, eighth = (t.lower().compile() for t in traced)
    assert eighth.cost_analysis()["flops"] <= one.cost_analysis()["flops"] / 6
    one, eighth = (c.memory_analysis().temp_size_in_bytes for c in (one, eighth))
    assert one <= 400 * 2**20
    assert eighth <= one / 6
