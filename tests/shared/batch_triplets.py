"""The losses of `zoo.losses.batch`, compiled, and batches to compare them on."""

import functools

import jax
import numpy as np
import pytest

from zoo.losses.batch import batch_all_triplet, batch_hard_triplet, batch_semi_hard_triplet
from zoo.losses.reduce import mean

LOSSES = {
    "all": batch_all_triplet,
    "hard": batch_hard_triplet,
    "soft": functools.partial(batch_hard_triplet, soft=True),
    "semi": batch_semi_hard_triplet,
}
B, D = 20, 4
each_loss = pytest.mark.parametrize("name", LOSSES)


@functools.cache
def compiled(name, squared=False, margin=0.5):
    """Value and gradient; one program for all the tests of a shape."""

    def loss(x, labels, valid):
        return mean(*LOSSES[name](x, labels, margin=margin, squared=squared, valid=valid))

    return jax.jit(jax.value_and_grad(loss))


def run(name, x, labels, valid=None, **options):
    valid = np.ones(len(labels), bool) if valid is None else valid
    return compiled(name, **options)(x, np.asarray(labels, np.int32), valid)


def example(seed=0, b=B, d=D):
    """Embeddings in clusters, so that triplets of every kind occur, classes of uneven size."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-3, 3, b).astype(np.int32)
    x = rng.normal(size=(6, d))[labels] + rng.normal(size=(b, d))
    return x.astype(np.float32), labels


def assert_equal(got, want, tolerance=1e-5):
    """ "Equal to t" of DESIGN; both finite."""
    for mine, theirs in zip(got, want, strict=True):
        mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
        assert np.isfinite(mine).all()
        assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()
