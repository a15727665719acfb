"""Pictures of an embedding: its map, distances, ROC, neighbours and hardest pairs."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.data.images import read_image
from zoo.metrics import neighbours, verification_scores
from zoo.train.figures import HUES, curves, save

MAPPED = 1000  # Pictures in the map; more would hide one another.
SHOWN, NEIGHBOURS = 8, 6  # Rows and columns of the pictures.
RIGHT, WRONG = "#228833", "#CC1E3C"


def draw(
    results, records: Sequence[Mapping[str, Any]], folder: pathlib.Path, *, score: str
) -> np.ndarray:
    """Writes all figures of an `Embedded` split into a folder; returns the map, [h, w, 3] uint8."""
    folder.mkdir(parents=True, exist_ok=True)
    source = results.source
    verified = verification_scores(results.distances, results.same)
    curves(records, folder / "curves.png", score=score)
    distances(results.distances, results.same, verified, folder / "distances.png")
    roc(results.distances, results.same, verified, folder / "roc.png")
    rows = np.linspace(0, len(source) - 1, min(SHOWN, len(source))).astype(int)
    nearest(results, rows, folder / "neighbours.png")
    hardest(results, folder / "hardest_pairs.png")
    embedding_map(results.points, source.labels, source.info, folder / "map.png")
    return read_image(folder / "map.png", 3)


def embedding_map(embeddings: np.ndarray, labels: np.ndarray, info, path) -> None:
    """Draws embeddings in the plane by t-SNE, van der Maaten and Hinton, JMLR 2008.

    Neighbours stay neighbours; distances between far groups mean nothing. Ten classes at most are
    coloured and named, others are grey.
    """
    from sklearn.manifold import TSNE  # Its import takes longer than a small training's step.

    chosen = np.linspace(0, len(labels) - 1, min(MAPPED, len(labels))).astype(int)
    x, labels = np.asarray(embeddings[chosen], np.float64), labels[chosen]
    # A collapsed network has no directions; t-SNE's own PCA would divide by their variance of 0.
    x = x + 1e-9 * np.random.default_rng(0).normal(size=x.shape)
    perplexity = min(30, (len(x) - 1) / 3)
    place = TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(x)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    classes, counts = np.unique(labels, return_counts=True)
    coloured = classes[np.argsort(-counts, kind="stable")[:10]]
    rest = ~np.isin(labels, coloured)
    if rest.any():
        axes.scatter(*place[rest].T, s=10, color="0.8", label="others")
    for hue, marker, cls in zip(HUES * 2, "o" * 5 + "^" * 5, sorted(coloured), strict=False):
        at = place[labels == cls]
        axes.scatter(*at.T, s=14, color=hue, marker=marker, label=info.class_names[cls])
    axes.set(title=f"{len(x)} pictures by t-SNE", xticks=[], yticks=[])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    save(figure, path)


def distances(distance: np.ndarray, same: np.ndarray, verified: Mapping[str, float], path) -> None:
    """Draws how distances of same and different pairs spread, and the threshold of equal errors."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    edges = np.histogram_bin_edges(distance, 60)
    for chosen, hue, name in ((same, HUES[0], "same"), (~same, HUES[1], "different")):
        axes.hist(distance[chosen], edges, density=True, alpha=0.6, color=hue, label=name)
    threshold = verified["eer_threshold"]
    axes.axvline(threshold, color="black", linewidth=1, label=f"equal errors, at {threshold:.3g}")
    axes.set(xlabel="distance", ylabel="density", title=f"{len(distance):,} pairs")
    _finished(figure, axes, path)


def roc(distance: np.ndarray, same: np.ndarray, verified: Mapping[str, float], path) -> None:
    """Draws accepted same pairs over accepted different pairs, and where both errors are equal."""
    from sklearn.metrics import roc_curve

    far, tar, _ = roc_curve(same, -distance)
    figure = Figure(figsize=(4.8, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(far, tar, color=HUES[0], label=f"area {verified['roc_auc']:.4f}")
    eer = verified["eer"]
    axes.plot(eer, 1 - eer, "o", color=HUES[1], label=f"equal error rate {100 * eer:.2f} %")
    axes.plot([0, 1], [1, 0], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(0, 1), ylim=(0, 1.01))
    _finished(figure, axes, path)


def nearest(results, rows: Sequence[int], path) -> None:
    """Draws pictures, each with its nearest neighbours, framed green if right and red if wrong."""
    gallery = results.source if results.gallery is None else results.gallery[1]
    k = min(NEIGHBOURS, len(gallery) - 1)
    indices, distance = neighbours(results.points, k, **results.search())
    figure = Figure(figsize=(1.25 * (k + 1), 1.45 * len(rows)), layout="constrained")
    for axes, row in zip(figure.subplots(len(rows), k + 1, squeeze=False), rows, strict=True):
        _picture(axes[0], results.source[row]["image"], "query")
        for place, panel in enumerate(axes[1:]):
            other = indices[row, place]
            right = gallery.labels[other] == results.source.labels[row]
            words = f"{distance[row, place]:.3g}"
            _picture(panel, gallery[other]["image"], words, RIGHT if right else WRONG)
    save(figure, path)


def hardest(results, path) -> None:
    """Draws the same pairs that are farthest apart, above, and the different ones nearest."""
    order = np.argsort(results.distances, kind="stable")
    same = results.same[order]
    picked = order[same][::-1][:SHOWN], order[~same][:SHOWN]
    figure = Figure(figsize=(1.3 * SHOWN, 6.0), layout="constrained")
    panels = figure.subplots(4, SHOWN)
    for half, (pairs, word) in enumerate(zip(picked, ("same", "different"), strict=True)):
        for column in range(SHOWN):
            upper, lower = panels[2 * half : 2 * half + 2, column]
            upper.set_axis_off(), lower.set_axis_off()
            if column >= len(pairs):
                continue
            pair = pairs[column]
            words = f"{word}, {results.distances[pair]:.3g}"
            i, j = (places[pair] for places in results.pairs)
            _picture(upper, results.source[i]["image"], words)
            _picture(lower, results.source[j]["image"], "")
    save(figure, path)


def _picture(axes: Axes, image: np.ndarray, words: str, frame: str = "0.6") -> None:
    axes.set_axis_on()
    axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.set_title(words, fontsize=8)
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=3)


def _finished(figure: Figure, axes: Axes, path) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, path)
