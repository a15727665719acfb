import functools

import jax
import numpy as np
import optax
import pytest

from support import descend, initialised, picture
from zoo.models import FCN8s, FCN32s

# Compiled without optimization these deep but small networks are ready in half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})


@pytest.mark.slow
def test_dropout_behind_fc6_and_fc7_in_training_only():
    model, image = FCN32s(2, width=1), picture(1, 32, 32, 1)
    variables = initialised(model, image)

    def zeros(train):
        """The share of the features of fc6 and fc7 that are zero: relu's, and the dropped."""
        _, state = model.apply(
            variables,
            image,
            train=train,
            rngs={"dropout": jax.random.key(0)},
            capture_intermediates=lambda m, _: m.name and m.name.startswith("Dropout"),
        )
        found = state["intermediates"]
        return [np.mean(found[f"Dropout_{i}"]["__call__"][0] == 0) for i in range(2)]

    positive = 1 - np.array(zeros(False))
    np.testing.assert_allclose(1 - np.array(zeros(True)), positive / 2, atol=0.15)
    with pytest.raises(Exception, match="dropout"):
        model.apply(variables, image, train=True)


@pytest.mark.slow
def test_learns_one_batch_by_heart():
    """From scores of zero, skips too; blocks of 8 px, as the smallest skip sees them."""
    model = FCN8s(3, width=2)
    rng = np.random.default_rng(0)
    image = picture(2, 32, 32, 1)
    label = rng.integers(0, 3, (2, 4, 4)).repeat(8, 1).repeat(8, 2)
    params = jit(model.init)(jax.random.key(0), image)["params"]

    def loss(params):
        logits = model.apply({"params": params}, image)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    params, losses = descend(loss, params, rate=3e-3, steps=200)
    np.testing.assert_allclose(losses[0], np.log(3), rtol=1e-4)
    assert losses[-1] < 0.1
    for name in ("score_fr", "score_pool4", "score_pool3"):
        assert np.abs(params[name]["kernel"]).max() > 1e-2, name
