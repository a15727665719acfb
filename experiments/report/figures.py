"""Pictures of a run: curves, confusion matrix, and examples beside their predictions.

NumPy in, PNG out. Drawn without pyplot and its global state, so that any thread may draw.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator

from zoo.data.images import VOID_COLOUR, File, colourize, overlay, write_atomically
from zoo.data.info import Info

matplotlib.rcParams["text.parse_math"] = False  # Names of classes may hold a $.
RIGHT, WRONG = (235, 235, 235), (204, 30, 60)
# Paul Tol's "bright" scheme, told apart by colour-blind readers too.
HUES = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#AA3377")

Arrays = Sequence[np.ndarray]


def within(size: Sequence[int], most: int) -> tuple[int, ...]:
    """A size with no side above `most`, in the same proportions; itself where it fits."""
    scale = min(most / max(size), 1.0)
    return tuple(max(round(n * scale), 1) for n in size)


def curves(
    records: Iterable[Mapping[str, Any]],
    path: File,
    *,
    score: str = "mean_iou",
    upright: bool = False,
) -> None:
    """Draws loss and score over the steps, a line for each split.

    `records` are the lines of metrics.jsonl, each with `step`, `split` and numbers by name; None
    and nan leave a gap. `score` is marked where it is best on each split. It stands beside the loss
    or, `upright`, below it.
    """
    records = list(records)
    seen = dict.fromkeys(record["split"] for record in records)
    # These two keep their colours, whichever was logged first.
    splits = list(dict.fromkeys([s for s in ("train", "validation") if s in seen] + list(seen)))
    figure = Figure(figsize=(5, 7.6) if upright else (10, 3.8), layout="constrained")
    places = figure.subplots(2, 1) if upright else figure.subplots(1, 2)
    for axes, name in zip(places, ("loss", score), strict=True):
        for split, hue in zip(splits, HUES * len(splits), strict=False):
            points = [(r["step"], r[name]) for r in records if r["split"] == split and name in r]
            steps, values = np.array(points, float).reshape(-1, 2).T
            if not np.isfinite(values).any():
                continue
            label = split
            if name == score:
                best, word = np.nanargmax(values), "best " if len(points) > 1 else ""
                label += f", {word}{values[best]:.3f} at step {steps[best]:.0f}"
                axes.plot(steps[best], values[best], "*", color=hue, markersize=13, zorder=3)
            # A lone point makes no line; many markers hide it.
            marker = "o" if len(points) <= 30 else ""
            axes.plot(steps, values, color=hue, label=label, marker=marker, ms=3.5, lw=1.3)
        axes.set(xlabel="step", title=name.replace("_", " ").replace("iou", "IoU"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        least, most = axes.dataLim.intervaly
        if name == "loss" and 0 < 20 * least < most:
            axes.set_yscale("log")
            # Not the default, 10 to a power, which is written in the mathtext turned off above.
            subs = (1, 2, 5) if most < 1e4 * least else (1,)  # More would overlap.
            axes.yaxis.set_major_locator(LogLocator(subs=subs))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        tidy(axes)
    save(figure, path)


def tidy(axes: Axes) -> None:
    """Gives a plot a light grid, no box and, where something in it is named, a legend."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(edgecolor="none", framealpha=0.7)  # Legible where a curve passes behind.


def confusion(matrix: np.ndarray, class_names: Sequence[str], path: File) -> None:
    """Draws a confusion matrix, each row in per cent of its true class's pixels.

    `matrix`: [k, k] counts, rows the truth, hatched if empty. ValueError unless k names.
    """
    matrix = np.asarray(matrix, np.float64)
    k = len(class_names)
    if matrix.shape != (k, k):
        raise ValueError(f"confusion needs [{k}, {k}] counts for {k} names; got {matrix.shape}.")
    total = matrix.sum(1, keepdims=True)
    share = 100 * np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)
    axes = Figure(figsize=(3.2 + 0.46 * k, 2.6 + 0.46 * k), layout="constrained").subplots()
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(matrix):  # 0 is left empty for the eye.
        value = share[row, column]
        words = "<1" if value < 0.5 else f"{value:.0f}"
        tone = "white" if value > 55 else "black"
        axes.text(column, row, words, ha="center", va="center", color=tone, fontsize=9)
    for row in np.flatnonzero(total[:, 0] == 0):
        axes.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor="0.75", hatch="///", lw=0)
    axes.set_xticks(range(k), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(k), class_names)
    axes.set(xlabel="prediction", ylabel="truth")
    axes.set_title("per cent of the true class", fontsize=11)
    axes.tick_params(length=0)
    axes.figure.colorbar(shown, shrink=0.7, aspect=25, pad=0.02)
    save(axes.figure, path)


def grid(images: Arrays, labels: Arrays, predictions: Arrays, info: Info, path: File) -> None:
    """Draws a row for each example: image, truth, prediction and error, and names the colours.

    Images are [h, w, 1 or 3] uint8, labels and predictions [h, w] integer ids; sizes may differ.
    """
    examples, side = _examples(images, labels, predictions), 2.4
    heights = [min(max(x.shape[0] / x.shape[1], 0.3), 2.0) for x in images]
    size = 4 * side + 0.3, side * sum(heights) + 0.1 * len(examples) + 0.3
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.06, wspace=0.01, hspace=0.01)
    panels = figure.subplots(len(heights), 4, squeeze=False, height_ratios=heights)
    for row, (image, label, prediction) in zip(panels, examples, strict=True):
        painted = [colourize(x, info.colours, info.ignore_label) for x in (label, prediction)]
        error = np.where((label == prediction)[..., None], RIGHT, WRONG)
        error[label == info.ignore_label] = VOID_COLOUR
        for axes, picture in zip(row, (image, *painted, error), strict=True):
            # No averaging of neighbours: it would mix the colours of two classes into a third.
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
    for axes, title in zip(panels[0], ("image", "truth", "prediction", "error"), strict=True):
        axes.set_title(title, fontsize=11)
    names = dict(enumerate(zip(info.class_names, info.colours, strict=True)))
    names.setdefault(info.ignore_label, ("void", VOID_COLOUR))
    seen = np.unique(np.concatenate([x.ravel() for x in (*labels, *predictions)])).tolist()
    style = {"edgecolor": "0.4", "linewidth": 0.6}
    handles = [
        Patch(facecolor=np.divide(colour, 255), label=textwrap.fill(name, 18), **style)
        for name, colour in (*map(names.get, seen), ("right", RIGHT), ("wrong", WRONG))
    ]
    style = {"frameon": False, "fontsize": 9, "handlelength": 1.2, "ncols": min(6, len(handles))}
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), **style)
    save(figure, path, bbox_inches="tight")  # The legend hangs below, however many lines it has.


def overlays(images: Arrays, labels: Arrays, predictions: Arrays, info: Info) -> np.ndarray:
    """One picture for TensorBoard: a row for each example, image, truth and prediction laid over.

    Takes lists as `grid`, ids of their image's size; returns [H, W, 3] uint8, black where rows end.
    """
    rows = []
    for image, *ids in _examples(images, labels, predictions):
        painted = [overlay(image, x, info.colours, info.ignore_label) for x in ids]
        rows.append(np.concatenate([image, *painted], axis=1))
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in rows])


def _examples(images: Arrays, *ids: Arrays) -> list[tuple[np.ndarray, ...]]:
    """Image, [h, w, 3] of any, label and prediction of each example."""
    counts = [len(x) for x in (images, *ids)]
    if len(set(counts)) > 1 or not counts[0]:
        problem = "Examples need as many images as labels and predictions, and one at least"
        raise ValueError(f"{problem}; got {', '.join(map(str, counts))}.")
    images = [np.broadcast_to(x, (*x.shape[:2], 3)) for x in images]
    return list(zip(images, *ids, strict=True))


def save(figure: Figure, path: File, **options: Any) -> None:
    """Writes a figure as PNG, whole or not at all; `options` are of Matplotlib's `savefig`."""
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120, **options))
