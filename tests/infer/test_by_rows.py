"""One picture split by rows over eight devices, against the same picture on one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.data.images import Preprocess
from zoo.infer.predict import predict, predict_logits
from zoo.models import FCN8s, UNet
from zoo.train.parallel import Layout

RNG = np.random.default_rng(0)


def drawn(model):
    """Variables of which the statistics of batch norm, too, are not those of a fresh model."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)

    def draw(leaf):
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))  # 1 input for biases.
        return np.abs(scale * RNG.normal(size=leaf.shape)).astype(np.float32)

    signs = jax.tree.map(draw, shapes)
    signs["params"] = jax.tree.map(lambda x: x * RNG.choice([-1, 1], x.shape), signs["params"])
    return jax.tree.map(np.float32, signs)


@pytest.mark.parametrize(
    ("height", "options", "flips"),
    [
        (64, {"norm": "batch"}, False),  # 8 devices of 8 rows, two each at the lowest level.
        pytest.param(75, {}, True, marks=pytest.mark.slow),  # In no way even.
        pytest.param(90, {"padding": "VALID"}, False, marks=pytest.mark.slow),
    ],
)
def test_rows_of_eight_devices_are_those_of_one(height, options, flips):
    assert jax.device_count() == 8
    model = UNet(num_classes=3, width=4, depth=2, **options)
    variables, x = drawn(model), RNG.normal(size=(height, 36, 3)).astype(np.float32)
    want = predict_logits(model, variables, x, tile=None, flips=flips)
    got = predict_logits(model, variables, x, tile=None, flips=flips, layout=Layout())
    assert got.shape == want.shape == (height, 36, 3)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.slow
def test_predict_takes_the_whole_picture_by_rows():
    """In tiles without overlap the seams show; by rows there are none."""
    model = FCN8s(num_classes=3, width=4)
    image = RNG.integers(0, 256, (128, 64, 3), np.uint8)
    preprocess, variables = Preprocess(3, (0.5,) * 3, (0.25,) * 3), drawn(model)
    whole, cut, shared = (
        predict(model, variables, image, preprocess=preprocess, overlap=0, **how)
        for how in ({"tile": None}, {"tile": 64}, {"tile": 64, "layout": Layout()})
    )
    assert (cut != whole).mean() > 1e-3
    assert (shared != whole).mean() < 1e-3  # Equal logits to 1e-5; a tie may fall either way.


@pytest.mark.slow
def test_a_huge_picture_needs_an_eighth_of_the_memory_on_each():
    model, image = UNet(num_classes=3, width=8), jax.ShapeDtypeStruct((1, 4096, 4096, 3), "float32")
    blank = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    variables = jax.eval_shape(model.init, jax.random.key(0), blank)
    whole = jax.jit(model.apply).lower(variables, image).compile()
    split = Layout().by_rows(model.apply).lower(variables, image, 4096).compile()
    sizes = [c.memory_analysis().temp_size_in_bytes for c in (whole, split)]
    assert sizes[1] <= sizes[0] / 4
    found = set(re.findall(r" (all-[a-z-]+?|collective-[a-z]+)(?:-start)?\(", split.as_text()))
    assert found == {"collective-permute"}  # Rows at the seams, and nothing is gathered.
