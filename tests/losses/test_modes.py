"""The mining losses where JAX is set up otherwise: 64 bits, and a checked `jax.shard_map`."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import zoo.losses

TRIPLETS = {
    "batch_all_triplet": {"margin": 0.3},
    "batch_hard_triplet": {"margin": 0.3, "soft": True},
    "batch_semi_hard_triplet": {"margin": 0.3, "squared": True},
}
MINING = TRIPLETS | {"multi_similarity": {}, "supervised_contrastive": {}}

WIDE = """
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np
import zoo.losses, zoo.models as models

rng = np.random.default_rng(0)
labels = np.repeat(np.arange(3), 4)
for rows in (rng.normal(size=(12, 5)), rng.normal(size=(12, 5)).astype(np.float32)):
    rows = jnp.asarray(rows)
    assert rows.dtype.itemsize in (4, 8)
    for name, options in {mining}.items():
        loss = lambda rows: getattr(zoo.losses, name)(rows, labels, **options)
        values, weights = jax.jit(loss)(rows)
        gradient = jax.jit(jax.grad(lambda rows: loss(rows)[0].sum()))(rows)
        assert values.dtype == weights.dtype == "float32", name
        assert gradient.dtype == rows.dtype and bool(jnp.isfinite(gradient).all()), name
        if "margin" in options:  # As a schedule in 64 bits gives it.
            scheduled = {{**options, "margin": np.float64(options["margin"])}}
            again = getattr(zoo.losses, name)(rows, labels, **scheduled)[0]
            assert again.dtype == "float32" and bool(jnp.allclose(again, values)), name
    parts = jnp.split(rows, 3)
    assert all(x.dtype == "float32" for x in zoo.losses.triplet(*parts, margin=0.2))
# Labels that int32 would merge, traced: nobody can look at them.
mask = jax.jit(zoo.losses.positive_mask)(jnp.array([5, 5 + 2**32, 5]))
assert mask.tolist() == [[False, False, True], [False, False, False], [True, False, False]]

image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
for model in (
    models.UNet(num_classes=3, width=2, depth=2, norm="batch"),
    models.MaxUnpoolNet(num_classes=3, width=2),
    models.FCDenseNet56(num_classes=3),
    models.FCN8s(num_classes=3, width=2),
    models.ResidualEncoder(width=2),
    models.AlignedEncoder(),
    models.SiameseVerifier(models.SiameseEncoder()),
):
    pictures = 2 * [image] if isinstance(model, models.SiameseVerifier) else [image]
    found = jax.eval_shape(model.init_with_output, jax.random.key(0), *pictures)
    assert {{str(x.dtype) for x in jax.tree.leaves(found)}} == {{"float32"}}, model
"""


def test_in_64_bits_numbers_stay_float32():
    """Parameters too, or a checkpoint of another program would not fit."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", WIDE.format(mining=MINING)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MINING)
def test_devices_that_jax_checks_give_the_loss_of_one(name):
    """With `check_vma`, a loop whose sum begins alike on all devices is refused."""
    rng, count = np.random.default_rng(0), 4
    rows, labels = rng.normal(size=(16, 5)).astype(np.float32), np.repeat(np.arange(4), 4)
    loss = getattr(zoo.losses, name)

    def own(rows, labels):
        both = jax.lax.all_gather((rows, labels), "d", tiled=True)
        anchors = jnp.arange(len(rows)) + len(rows) * jax.lax.axis_index("d")
        return jax.lax.psum(loss(*both, anchors=anchors, **MINING[name])[0].sum(), "d")

    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((count,), ("d",), devices=jax.devices()[:count], axis_types=auto)
    mapped = jax.shard_map(own, mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P())
    got = jax.jit(jax.value_and_grad(mapped))(rows, labels)
    want = jax.value_and_grad(lambda rows: loss(rows, labels, **MINING[name])[0].sum())(rows)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-5 * np.abs(want[1]).max())
