"""A small FC-DenseNet, and what its tests do with one."""

import functools

import jax
import numpy as np

from zoo.models import FCDenseNet56

Small = functools.partial(FCDenseNet56, 3, growth_rate=3, blocks=(2, 1, 2), features=5)


def equal_trees(got, want, tolerance=1e-5):
    """As `equal`, of every leaf; a bias that batch norm takes away has a gradient of rounding."""
    least = 1e-2 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(want))
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        assert np.shape(a) == np.shape(b)
        limit = tolerance * max(np.abs(b).max(), least)
        assert np.abs(a - b).max() <= limit, jax.tree_util.keystr(path)


def step(model, image, weight, *, train=True, key=None):
    """Gradient by parameters and image, logits and new statistics, to be jitted."""
    rngs = {} if key is None else {"dropout": key}

    def run(variables):
        def loss(params, image):
            logits, after = model.apply(
                {**variables, "params": params},
                image,
                train=train,
                mutable="batch_stats",
                rngs=rngs,
            )
            return (logits * weight).sum(), (logits, after["batch_stats"])

        return jax.grad(loss, (0, 1), has_aux=True)(variables["params"], image)

    return run
