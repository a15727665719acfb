"""Parameters are drawn, and nothing else is computed: `init` calls the model on a picture."""

import jax
import numpy as np
import pytest

from dense_nets import Small
from zoo.models import MaxUnpoolNet, UNet

MODELS = {
    "FCDenseNet": Small(features=48, growth_rate=16),  # Wide: its gradients are our own.
    "UNet": UNet(num_classes=3, width=8, depth=2, norm="batch"),
    "MaxUnpoolNet": MaxUnpoolNet(num_classes=3, width=2),
}


def convolutions(function, *inputs):
    """Their number in the program as it is lowered and as it is compiled."""
    options = {"xla_backend_optimization_level": "0"}  # As of zoo/train/state.py.
    lowered = jax.jit(function, compiler_options=options).lower(*inputs)
    words = (lowered, "stablehlo.convolution"), (lowered.compile(), " convolution(")
    return [program.as_text().count(word) for program, word in words]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_init_holds_no_convolution(model):
    image = np.zeros((1, 64, 64, 3), np.float32)
    assert convolutions(model.init, jax.random.key(0), image) == [0, 0]
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert min(convolutions(model.apply, variables, image)) > 4  # By these words one finds them.
