"""Runs side by side, for people: scores and costs as bars, score against cost, and a page of it."""

import math
import pathlib
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.report import figures, page
from experiments.report.page import Table

Groups = list[list[dict]]  # Runs that differ by their seed alone, together.
COSTS = {  # Heading and format of what a model costs, by the name it has in a run.
    "parameters": ("parameters", "{:,.0f}"),
    "gflops": ("GFLOP per input", "{:.2f}"),
    "memory_mib": ("MiB per step", "{:,.0f}"),
    "step_seconds": ("s per step", "{:.3f}"),
}


def deviation(values: Sequence[float]) -> float:
    """That of a sample (n - 1); nan of one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def draw(groups: Groups, path: pathlib.Path) -> None:
    """Draws score and costs as bars; below, score against cost and the scores of every class."""
    first = groups[0][0]
    k = len(first["classes"]) if "iou" in first["scores"] else 0
    side = 1.1 + 0.3 * len(groups), max(3.2, 1.6 + 0.4 * len(groups))
    size = max(11.5, 7 + 0.6 * k), sum(side) + 0.6
    figure = Figure(figsize=size, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=side, hspace=0.04)
    bars(groups, above.subplots(1, 1 + len(COSTS), sharey=True))
    if k:
        shades = max(2.6, 0.55 * k)  # Its heading takes that much.
        left, right = below.subplots(1, 2, width_ratios=[size[0] - 4 - shades, shades])
        classes(groups, right)
    else:
        left = below.subplots()
    scatter(groups, left, height=side[1])
    figures.save(figure, path)


def bars(groups: Groups, panels: Sequence[Axes]) -> None:
    """A panel for the score and one for each cost, a bar for each group: the mean over its seeds,
    of the score with its sample standard deviation."""
    rows, headline = range(len(groups)), groups[0][0]["headline"]
    hues = [hue for hue, _ in zip(figures.HUES * len(groups), groups, strict=False)]
    scores = [[r["scores"][headline] for r in runs] for runs in groups]
    shown = {words(headline): (scores, "{:.3f}")}
    for key, (title, form) in COSTS.items():
        shown[title] = [[r[key] for r in runs] for runs in groups], form
    for axes, (title, (values, form)) in zip(panels, shown.items(), strict=True):
        means = [statistics.fmean(v) for v in values]
        spread = [deviation(v) for v in values] if values is scores else None
        axes.barh(rows, means, color=hues, xerr=spread, error_kw={"lw": 1, "capsize": 2})
        ends = [m + (0 if s is None or math.isnan(s) else s)
                for m, s in zip(means, spread or [None] * len(means), strict=True)]  # fmt: skip
        for row, mean, end in zip(rows, means, ends, strict=True):
            axes.annotate(form.format(mean), (end, row), xytext=(3, 0), va="center", fontsize=8,
                          textcoords="offset points")  # fmt: skip
        # Room for the numbers.
        axes.set_xlim(0, 1.6 * max([e for e in ends if not math.isnan(e)], default=0) or 1)
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks(rows, [runs[0]["name"] for runs in groups])
        axes.tick_params(length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    panels[0].invert_yaxis()  # Shared: the first on top, as in the tables.


def scatter(groups: Groups, axes: Axes, *, height: float) -> None:
    """Score against FLOPs, every seed a point; the figure's `height` in inches."""
    headline, points = groups[0][0]["headline"], []
    for runs, hue in zip(groups, figures.HUES * len(groups), strict=False):
        x = [r["gflops"] for r in runs]
        y = [r["scores"][headline] for r in runs]
        axes.plot(x, y, "o", color=hue)
        points.append((np.mean(y), np.mean(x), runs[0]["name"]))
    axes.set(xscale="log", xlabel=COSTS["gflops"][0])
    axes.set_title(f"{words(headline)}, every seed a point", fontsize=10)
    axes.margins(x=0.1, y=0.1)
    # Names stand beside the panel, in the order of their scores, a line's height apart.
    (low, high), line, free = axes.get_ylim(), 0.22 / (0.75 * height), -np.inf
    for y, x, name in sorted(points):
        free = max((y - low) / (high - low), free)
        axes.annotate(
            name, (x, y), xytext=(1.04, free), textcoords="axes fraction", va="center", fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "0.75", "relpos": (0, 0.5)}, zorder=0,
        )  # fmt: skip
        free += line
    # At other numbers there is no room for two.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    figures.tidy(axes)


def classes(groups: Groups, axes: Axes) -> None:
    """The mean IoU of each class over the seeds, as a table of shades."""
    names = groups[0][0]["classes"]
    shares = 100 * np.array([np.mean([r["scores"]["iou"] for r in g], 0) for g in groups])
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(shares):
        tone = "white" if value > 55 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=tone)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(groups)), [runs[0]["name"] for runs in groups])
    axes.set_title("IoU of each class, per cent", fontsize=10)
    axes.tick_params(length=0)


def words(name: str) -> str:
    """A score's name as a heading."""
    return name.replace("_", " ").replace("iou", "IoU")


def write(
    parts: Sequence[Table], note: str, command: str, facts: Sequence[Table], picture: pathlib.Path
) -> None:
    """Writes compare.html beside the picture, in one file; `facts` are of words."""
    names = [row[0] for row in parts[0].rows]
    alt = f"Score, {', '.join(title for title, _ in COSTS.values())} of {', '.join(names)}."
    values = {
        "title": "Models side by side",
        "sentence": f"{parts[0].head[1]}: " + ", ".join(f"{r[0]} {r[1]}" for r in parts[0].rows),
        "figure": page.figure(picture, "Scores and costs, drawn", alt),
    }
    values |= {"note": note, "tables": parts, "command": command, "facts": facts}
    page.write("compare.html.j2", picture.with_suffix(".html"), **values)
