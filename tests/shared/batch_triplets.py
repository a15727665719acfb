"""The losses of `zoo.losses.batch`, compiled and as a loop, and batches to compare them on."""

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
each_distance = pytest.mark.parametrize("squared", [False, True], ids=["plain", "squared"])


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


def loop(name, x, labels, valid=None, squared=False, margin=0.5):
    """Loss and gradient, one triplet after the other in float64."""
    x, b = np.asarray(x, np.float64), len(labels)
    rows = [i for i in range(b) if valid is None or valid[i]]
    d = np.full((b, b), np.nan)
    for i in rows:
        for j in rows:
            d[i, j] = ((x[i] - x[j]) ** 2).sum() ** (1 if squared else 0.5)
    total = count = 0.0
    slope = np.zeros((b, b))
    for a in rows:
        near = [p for p in rows if labels[p] == labels[a] and p != a]
        far = [n for n in rows if labels[n] != labels[a]]
        if name in ("hard", "soft"):
            if not near or not far:
                continue
            d_p, d_n = max(d[a, p] for p in near), min(d[a, n] for n in far)
            t = d_p - d_n + margin
            total += max(t, 0) if name == "hard" else np.logaddexp(0, t)
            count += 1
            change = (t > 0) if name == "hard" else np.exp(-np.logaddexp(0, -t))
            near, far = [p for p in near if d[a, p] == d_p], [n for n in far if d[a, n] == d_n]
            slope[a, near] += change / len(near)
            slope[a, far] -= change / len(far)
            continue
        for p in near:
            for n in far:
                t = d[a, p] - d[a, n] + margin
                if t > 0 and (name == "all" or d[a, n] > d[a, p]):
                    total, count = total + t, count + 1
                    slope[a, p] += 1
                    slope[a, n] -= 1
    gradient = np.zeros_like(x)
    for a, j in zip(*slope.nonzero(), strict=True):
        if d[a, j] > 0:
            pull = slope[a, j] * (x[a] - x[j]) * (2 if squared else 1 / d[a, j])
            gradient[a] += pull
            gradient[j] -= pull
    return (total / count, gradient / count) if count else (0.0, gradient)


def assert_equal(got, want, tolerance=1e-5):
    """ "Equal to t" of DESIGN; both finite."""
    for mine, theirs in zip(got, want, strict=True):
        mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
        assert np.isfinite(mine).all()
        assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()
