"""Draws the losses of zoo/README.md, as their papers do: every value is one that zoo.losses gave.

python -m experiments.losses [DIR]
"""

import argparse
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from experiments.architectures import INK, PAPER
from experiments.report.figures import HUES, save, tidy
from zoo import losses
from zoo.ops import pairwise_squared_distance, safe_sqrt

SAME, DIFFERENT = HUES[0], HUES[1]
MARGIN = 0.2  # Of triplets; 1 for pairs.
CLASSES, EACH = 3, 4  # Of the batch that is mined.
POSITIVE = 0.8  # Distance, in the plane, of the positive from the anchor.


def contrastive(distance: jax.Array, *, same: bool) -> jax.Array:
    """[n] -> the loss of pairs that are so far apart."""
    y = jnp.stack([distance, jnp.zeros_like(distance)], axis=1)
    return losses.contrastive(jnp.zeros_like(y), y, jnp.full(len(y), same))[0]


def pair_cross_entropy(logits: jax.Array, *, same: bool) -> jax.Array:
    """[n] -> the loss of pairs of such logits."""
    return losses.pair_cross_entropy(logits, jnp.full(len(logits), same))[0]


def kind(negative: jax.Array) -> jax.Array:
    """[n, 2], places of a negative -> 0 easy, 1 semi-hard, 2 hard; the anchor stands in the origin
    and the positive on the first axis."""

    def of(place):
        points = jnp.stack([jnp.zeros(2), jnp.array([POSITIVE, 0.0]), place])
        values, _ = losses.triplet(*points[:, None], margin=MARGIN)
        _, semi_hard = losses.batch_semi_hard_triplet(
            points, jnp.array([0, 0, 1]), margin=MARGIN, squared=True, anchors=jnp.array([0])
        )
        return jnp.where(values[0] == 0, 0, jnp.where(semi_hard[0] > 0, 1, 2))

    return jax.jit(jax.vmap(of))(negative)


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [b, 2] of classes that overlap somewhat, and labels [b]."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(CLASSES), EACH)
    angles = 2 * np.pi * labels / CLASSES
    centres = 0.55 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return (centres + 0.3 * rng.normal(size=centres.shape)).astype(np.float32), labels


def parts(name: str, embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[b, b]: in how many of the triplets that count each picture (column) is, by anchor (row).

    Found by leaving that picture out: how many fewer count then; of batch-hard, which takes one
    triplet an anchor, whether the loss changes. There it is the soft one, which is never 0.
    """
    options = {"soft": True} if name == "batch_hard_triplet" else {}
    alone = np.eye(len(labels), dtype=bool)

    def without(picture):
        return getattr(losses, name)(
            embeddings, labels, margin=MARGIN, valid=~picture, **options
        )  # fmt: skip

    value, weight = without(jnp.zeros(len(labels), bool))
    values, weights = jax.jit(jax.vmap(without))(alone)
    if options:  # Beyond rounding: the compiled program adds in another order.
        found = np.abs(value[:, None] - values.T) > 1e-5
    else:
        found = weight[:, None] - weights.T
    return np.where(alone, 0, found)


def of_similarity(loss, similarity: jax.Array) -> jax.Array:
    """[n] -> the loss of an anchor with a positive of similarity 0.5, and a negative of these."""

    def of(s):
        points = jnp.array([[1.0, 0.0], [0.5, math.sqrt(0.75)], [0.0, 0.0]])
        points = points.at[2].set(jnp.stack([s, -jnp.sqrt(1 - s * s)]))
        return loss(points, jnp.array([0, 0, 1]), anchors=jnp.array([0]))[0][0]

    return jax.jit(jax.vmap(of))(similarity)


def arcface(angle: jax.Array, *, label: int, margin: float) -> jax.Array:
    """[n], angles from the first centre towards the second, 90 degrees on -> the loss."""
    points = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    labels = jnp.full(len(angle), label)
    return losses.arcface(points, jnp.eye(2), labels, margin=margin, scale=8.0)[0]


def pixels(loss, p: jax.Array, **options) -> jax.Array:
    """[n], probabilities of the pixel's class, one of two -> the loss of each."""
    logits = jnp.stack([jnp.log1p(-p), jnp.log(p)], axis=-1)[None, None]
    return loss(logits, jnp.ones(logits.shape[:3], int), **options)[0][0, 0]


def regions(loss, length: jax.Array, **options) -> jax.Array:
    """[n], pixels given to a class, from the left of a row of 100 -> its loss; 40 are its own."""
    truth = jnp.arange(100) < 40
    given = jnp.arange(100) < length[:, None]
    logits = 50.0 * jnp.stack([~given, given], axis=-1)[:, None]
    labels = jnp.broadcast_to(truth, given.shape).astype(int)[:, None]
    return loss(logits, labels, **options)[0][:, 1]


def lovasz(wrong: jax.Array) -> jax.Array:
    """[n, 2], shares of two pixels that fall to the other class -> the loss of their image, in
    which the first is of class 1 and the second is not."""
    p = jnp.clip(jnp.stack([1 - wrong[:, 0], wrong[:, 1]], axis=1), 1e-6, 1 - 1e-6)
    logits = jnp.stack([jnp.log1p(-p), jnp.log(p)], axis=-1)[:, None]
    labels = jnp.broadcast_to(jnp.array([1, 0]), p.shape)[:, None]
    return losses.lovasz_softmax(logits, labels)[0]


def draw_pairs(panels: np.ndarray) -> None:
    d, logits = jnp.linspace(0, 1.6, 161), jnp.linspace(-5, 5, 101)
    for same, hue, word in ((True, SAME, "same"), (False, DIFFERENT, "different")):
        panels[0, 0].plot(d, contrastive(d, same=same), color=hue, label=word)
        panels[0, 1].plot(logits, pair_cross_entropy(logits, same=same), color=hue, label=word)
    panels[0, 0].axvline(1, color="0.6", ls=":", lw=1)
    panels[0, 0].set(xlabel="distance; dotted: the margin", title="contrastive")
    panels[0, 1].set(xlabel="logit", title="pair_cross_entropy")
    draw_triplet(panels[0, 2])

    embeddings, labels = batch()
    mined = ("batch_all_triplet", "batch_semi_hard_triplet", "batch_hard_triplet")
    for axes, name in zip(panels[1], mined, strict=True):
        draw_matrix(axes, embeddings, labels, parts(name, embeddings, labels))
        axes.set_title(name)

    s = jnp.linspace(-0.95, 0.95, 381)
    for axes, name in zip(panels[2], ("multi_similarity", "supervised_contrastive"), strict=False):
        axes.plot(s, of_similarity(getattr(losses, name), s), color=DIFFERENT)
        axes.axvline(0.5, color=SAME, ls=":", lw=1.2)
        axes.set(xlabel="similarity of the negative; dotted: of the positive", title=name)
    theta = jnp.linspace(0, math.pi / 2, 181)
    for margin, style in ((0.0, "--"), (0.5, "-")):
        for label, hue in ((0, SAME), (1, HUES[2])):
            y = arcface(theta, label=label, margin=margin)
            panels[2, 2].plot(np.degrees(theta), y, style, color=hue)
        panels[2, 2].plot([], [], style, color=INK, label=f"margin {margin:g}")
    panels[2, 2].axhline(math.log(2), color="0.6", ls=":", lw=1)
    panels[2, 2].set(xlabel="degrees between centres; dotted: p = 1/2", title="arcface")
    panels[2, 2].set_xticks(range(0, 91, 15))
    for axes in [*panels[0, :2], *panels[2]]:
        axes.set_ylabel("loss")
        tidy(axes)


def draw_triplet(axes: Axes) -> None:
    """Where a negative is easy, semi-hard and hard, around an anchor with its positive."""
    x = np.linspace(-1.5, 1.5, 301)
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2).astype(np.float32)
    kinds = np.asarray(kind(grid)).reshape(len(x), len(x))
    hues = ListedColormap(["#E8F1E9", "#F3E9B8", "#F6C9CE"])
    axes.imshow(kinds, cmap=hues, origin="lower", extent=(-1.5, 1.5) * 2, interpolation="nearest")
    for place, word in (((0, 0), "anchor"), ((POSITIVE, 0), "positive")):
        axes.plot(*place, "o", color=SAME, ms=5)
        axes.annotate(word, place, xytext=(0, -11), textcoords="offset points", ha="center",
                      fontsize=8)  # fmt: skip
    # In the ring, which is narrow, the word stands on an arrow.
    arrow = {"arrowstyle": "-", "color": INK, "lw": 0.7}
    ring = (POSITIVE + math.sqrt(POSITIVE**2 + MARGIN)) / 2 / math.sqrt(2)
    axes.annotate("semi-hard", (ring, ring), (1.0, 1.2), ha="center", fontsize=8, arrowprops=arrow)
    axes.text(0, 0.4, "hard", ha="center", fontsize=8)
    axes.text(-1.4, 1.3, "easy: costs nothing", fontsize=8)
    axes.set(xticks=[], yticks=[], title="triplet", xlabel="where the negative stands")


def draw_matrix(axes: Axes, embeddings: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> None:
    """Distances as greys, and on them a dot for what counts, larger where it counts more often."""
    distances = safe_sqrt(pairwise_squared_distance(embeddings, embeddings))
    axes.imshow(distances, cmap="Greys", vmin=0, vmax=3)
    masks = losses.positive_mask(labels), losses.negative_mask(labels)
    for mask, hue in zip(masks, (SAME, DIFFERENT), strict=True):
        row, column = np.nonzero(np.asarray(mask) & (counts > 0))
        size = 55 * counts[row, column] / counts.max()
        axes.scatter(column, row, s=size, color=hue, linewidth=0)
    for edge in np.arange(EACH, len(labels), EACH) - 0.5:
        axes.axhline(edge, color=INK, lw=0.7)
        axes.axvline(edge, color=INK, lw=0.7)
    axes.set(xticks=[], yticks=[], xlabel="the other", ylabel="anchor")


def draw_pixels(panels: np.ndarray) -> None:
    p, length = jnp.linspace(0.01, 0.999, 300), jnp.arange(1, 101)
    panels[0].plot(p, pixels(losses.pixel_cross_entropy, p), color=INK, label="cross-entropy")
    for gamma, hue in zip((0.5, 1, 2, 5), HUES, strict=False):
        y = pixels(losses.focal, p, gamma=gamma)
        panels[0].plot(p, y, color=hue, label=f"focal, γ = {gamma:g}")
    panels[0].set(xlabel="probability of the pixel's class", title="focal", ylim=(0, 4.7))
    for name, hue in zip(("dice", "jaccard", "tversky"), HUES, strict=False):
        panels[1].plot(length, regions(getattr(losses, name), length), color=hue, label=name)
    panels[1].axvline(40, color="0.6", ls=":", lw=1)
    panels[1].set(xlabel="pixels given to a class of 40", title="dice, jaccard, tversky")
    x = np.linspace(0, 1, 41)
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2).astype(np.float32)
    level = np.asarray(lovasz(grid)).reshape(len(x), len(x))
    lines = panels[2].contour(x, x, level, levels=np.arange(0.1, 1, 0.1), cmap="viridis")
    panels[2].clabel(lines, fontsize=8)
    panels[2].set(xlabel="share lost of a pixel of the class", title="lovasz_softmax")
    panels[2].set(ylabel="share wrongly given of another")
    panels[0].set_ylabel("loss")
    panels[1].set_ylabel("loss")
    for axes in panels:
        tidy(axes)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.losses", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "folder", nargs="?", type=pathlib.Path, default="zoo/pictures", metavar="DIR",
        help="takes the figures (default: %(default)s)",
    )  # fmt: skip
    folder = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, size, rows, draw in (
        ("losses_pairs", (10, 9.4), 3, draw_pairs), ("losses_pixels", (10, 3.4), 1, draw_pixels),
    ):  # fmt: skip
        figure = Figure(figsize=size, layout="constrained", facecolor=PAPER)
        panels = figure.subplots(rows, 3)
        draw(panels)
        for axes in panels.flat:
            axes.set_facecolor("none")
            axes.set_title(axes.get_title(), fontsize=11, color=INK)
            axes.xaxis.label.set_fontsize(9)
            axes.yaxis.label.set_fontsize(9)
            axes.tick_params(labelsize=8)
            if axes.get_legend():
                axes.legend(frameon=False, fontsize=8.5)
        save(figure, folder / f"{name}.png")
        print(folder / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
