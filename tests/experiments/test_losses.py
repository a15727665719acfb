"""The values that the figures of zoo/README.md draw, against formulas, loops and hands."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import losses as figures
from zoo import losses


def test_pairs_by_hand():
    d = jnp.array([0.0, 0.3, 1.0, 1.4])
    close = {"rtol": 1e-5, "atol": 1e-7}
    np.testing.assert_allclose(figures.contrastive(d, same=True), [0, 0.045, 0.5, 0.98], **close)
    np.testing.assert_allclose(figures.contrastive(d, same=False), [0.5, 0.245, 0, 0], **close)
    z = jnp.array([-2.0, 0.0])
    want = [math.log1p(math.exp(2)), math.log(2)]
    np.testing.assert_allclose(figures.pair_cross_entropy(z, same=True), want, **close)


def test_rings_of_a_triplet():
    """Hard within the positive's distance, semi-hard to sqrt(0.8^2 + 0.2) = 0.917, easy beyond."""
    found = figures.kind(jnp.array([[0, 0.79], [0, 0.81], [-0.91, 0], [0, 0.92], [1.4, 1.4]]))
    assert found.tolist() == [2, 1, 1, 0, 0]


def test_pictures_that_count_by_a_loop():
    x, labels = figures.batch()
    d = np.linalg.norm(x[:, None].astype(np.float64) - x[None], axis=-1)
    b = len(labels)
    want = {name: np.zeros((b, b)) for name in ("all", "semi_hard", "hard")}
    for a in range(b):
        positives = [j for j in range(b) if labels[j] == labels[a] and j != a]
        negatives = [j for j in range(b) if labels[j] != labels[a]]
        want["hard"][a, max(positives, key=lambda j: d[a, j])] = 1
        want["hard"][a, min(negatives, key=lambda j: d[a, j])] = 1
        for p in positives:
            for n in negatives:
                counts = d[a, p] - d[a, n] + figures.MARGIN > 0
                want["all"][a, [p, n]] += counts
                want["semi_hard"][a, [p, n]] += counts and d[a, n] > d[a, p]
    for name, matrix in want.items():
        found = figures.parts(f"batch_{name}_triplet", x, labels)
        np.testing.assert_array_equal(found, matrix, name)
        assert 0 < (matrix > 0).mean() < 0.9


def test_losses_of_similarities_by_formula():
    s = np.array([0.2, 0.45, 0.7])
    found = figures.of_similarity(losses.supervised_contrastive, s)
    np.testing.assert_allclose(found, np.log1p(np.exp((s - 0.5) / 0.1)), rtol=1e-4)
    # The pair is mined where the negative is within 0.1 of the positive, or nearer.
    near = np.log1p(np.exp(2 * (1 - 0.5))) / 2 + np.log1p(np.exp(50 * (s - 1))) / 50
    found = figures.of_similarity(losses.multi_similarity, s)
    np.testing.assert_allclose(found, np.where(s > 0.4, near, 0), rtol=1e-4)


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_arcface_leaves_its_margin_between_the_classes(margin):
    """Where p = 1/2: cos(t + m) = cos(90 degrees - t), and the mirror image for the other."""
    theta = jnp.linspace(0, math.pi / 2, 2001)
    first = np.interp(math.log(2), figures.arcface(theta, label=0, margin=margin), theta)
    other = figures.arcface(theta, label=1, margin=margin)[::-1]
    second = np.interp(math.log(2), other, theta[::-1])
    assert second - first == pytest.approx(margin, abs=1e-4)


def test_pixels_and_regions_by_hand():
    p = jnp.array([0.5, 0.9])
    cross = -np.log([0.5, 0.9])
    np.testing.assert_allclose(figures.pixels(losses.pixel_cross_entropy, p), cross, rtol=1e-5)
    found = figures.pixels(losses.focal, p, gamma=2)
    np.testing.assert_allclose(found, cross * [0.25, 0.01], rtol=1e-4)
    # 20 of the class's 40 pixels; all; 20 too many.
    length = jnp.array([20, 40, 60])
    for loss, want in (
        (losses.dice, [1 - 40 / 60, 0, 1 - 80 / 100]),
        (losses.jaccard, [1 - 20 / 40, 0, 1 - 40 / 60]),
        (losses.tversky, [1 - 20 / (20 + 0.7 * 20), 0, 1 - 40 / (40 + 0.3 * 20)]),
    ):
        np.testing.assert_allclose(figures.regions(loss, length), want, atol=1e-5)


def test_lovasz_is_the_jaccard_loss_in_the_corners_and_straight_between():
    """One of two pixels wrong: the IoU of its class is 0, that of the other 1/2."""
    corners = jnp.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    np.testing.assert_allclose(figures.lovasz(corners), [0, 0.75, 0.75, 1], atol=1e-5)
    np.testing.assert_allclose(figures.lovasz(corners[1:3] / 2), [0.375, 0.375], atol=1e-5)


@pytest.mark.slow
def test_both_pictures_are_drawn(tmp_path):
    assert figures.main([str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"losses_pairs.png", "losses_pixels.png"}


def test_help_is_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        figures.main(["--help"])
    assert end.value.code == 0 and "default: zoo/pictures" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
