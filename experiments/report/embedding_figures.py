"""Pictures of an embedding: its map, distances, ROC, neighbours and hardest pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.report.figures import HUES, save, tidy, within
from zoo.data.images import File, resize_image
from zoo.data.info import Info
from zoo.metrics import neighbours
from zoo.train.embedded import Embedded

MAPPED = 1000  # Pictures in the map; more would hide one another.
SHOWN, NEIGHBOURS = 8, 6  # Rows and columns of the pictures.
SIDE = 256  # Longest side of one, in pixels; it is drawn smaller.
RIGHT, WRONG, PLAIN = "#228833", "#CC1E3C", "0.6"

Scores = Mapping[str, Any]


def embedding_map(embeddings: np.ndarray, labels: np.ndarray, info: Info, path: File) -> None:
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
    axes = Figure(figsize=(7, 6), layout="constrained").subplots()
    classes, counts = np.unique(labels, return_counts=True)
    coloured = classes[np.argsort(-counts, kind="stable")[:10]]
    if (rest := ~np.isin(labels, coloured)).any():
        axes.scatter(*place[rest].T, s=10, color="0.8", label="others")
    for hue, marker, cls in zip(HUES * 2, "o" * 5 + "^" * 5, sorted(coloured), strict=False):
        style = {"s": 14, "color": hue, "marker": marker, "label": info.class_names[cls]}
        axes.scatter(*place[labels == cls].T, **style)
    axes.set(title=f"{len(x)} pictures by t-SNE", xticks=[], yticks=[])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    save(axes.figure, path)


def distances(distance: np.ndarray, same: np.ndarray, verified: Scores, path: File) -> None:
    """Draws how distances of same and different pairs spread, and the threshold of equal errors."""
    axes = Figure(figsize=(7, 3.8), layout="constrained").subplots()
    edges = np.histogram_bin_edges(distance, 60)
    for chosen, hue, name in ((same, HUES[0], "same"), (~same, HUES[1], "different")):
        axes.hist(distance[chosen], edges, density=True, alpha=0.6, color=hue, label=name)
    threshold = verified["eer_threshold"]
    axes.axvline(threshold, color="black", linewidth=1, label=f"equal errors, at {threshold:.3g}")
    axes.set(xlabel="distance", ylabel="density", title=f"{len(distance):,} pairs")
    tidy(axes)
    save(axes.figure, path)


def roc(distance: np.ndarray, same: np.ndarray, verified: Scores, path: File) -> None:
    """Draws accepted same pairs over accepted different pairs, and where both errors are equal."""
    from sklearn.metrics import roc_curve

    far, tar, _ = roc_curve(same, -distance)
    axes = Figure(figsize=(4.8, 4.6), layout="constrained").subplots()
    axes.plot(far, tar, color=HUES[0], label=f"area {verified['roc_auc']:.4f}")
    eer = verified["eer"]
    axes.plot(eer, 1 - eer, "o", color=HUES[1], label=f"equal error rate {100 * eer:.2f} %")
    axes.plot([0, 1], [1, 0], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(0, 1), ylim=(0, 1.01))
    tidy(axes)
    save(axes.figure, path)


def nearest(results: Embedded, path: File) -> None:
    """Draws pictures, each with its nearest neighbours, framed green if right and red if wrong."""
    rows = np.linspace(0, len(results.source) - 1, min(SHOWN, len(results.source))).astype(int)
    _, gallery = results.searched
    k = min(NEIGHBOURS, len(gallery) - 1)
    indices, distance = neighbours(results.points, k, **results.search())
    lines = []
    for row in rows:
        line = [(results.source[row]["image"], "query", PLAIN)]
        for other, d in zip(indices[row], distance[row], strict=True):
            right = gallery.labels[other] == results.source.labels[row]
            line.append((gallery[other]["image"], f"{d:.3g}", RIGHT if right else WRONG))
        lines.append(line)
    _sheet(lines, path)


def hardest(results: Embedded, path: File) -> None:
    """Draws the same pairs that are farthest apart, above, and the different ones nearest."""
    order = np.argsort(results.distances, kind="stable")
    same = results.same[order]
    lines = []
    for word, pairs in (("same", order[same][::-1]), ("different", order[~same])):
        for places, words in zip(results.pairs, (f"{word}, {{:.3g}}", ""), strict=True):
            chosen = [(places[pair], results.distances[pair]) for pair in pairs[:SHOWN]]
            lines.append([(results.source[i]["image"], words.format(d), PLAIN) for i, d in chosen])
    _sheet(lines, path)


def _sheet(lines: Sequence[Sequence[tuple[np.ndarray, str, str]]], path: File) -> None:
    """Draws lines of pictures, each with the words above it and the colour of its frame."""
    columns = max(map(len, lines))
    figure = Figure(figsize=(1.3 * columns, 1.5 * len(lines)), layout="constrained")
    panels = figure.subplots(len(lines), columns, squeeze=False)
    for row, line in zip(panels, lines, strict=True):
        for axes in row[len(line) :]:
            axes.set_axis_off()
        for axes, (image, words, frame) in zip(row, line, strict=False):
            small = resize_image(image, within(image.shape[:2], SIDE))
            axes.imshow(small, cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.set_title(words, fontsize=8)
            axes.spines[:].set(color=frame, linewidth=3)
    save(figure, path)
