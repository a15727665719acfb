"""Runs side by side, for people: score against cost, and a page of it all."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.report import figures, page
from experiments.report.page import Table


def draw(groups: list[list[dict]], path: pathlib.Path) -> None:
    """Draws score against cost, every seed a point, and the scores of every class."""
    first, names = groups[0][0], [g[0]["name"] for g in groups]
    by_class = "iou" in first["scores"]
    k = len(first["classes"]) if by_class else 0
    size = 5.2 + 0.62 * k, max(3.2, 1.6 + 0.5 * len(groups))
    ratios = [5, 0.62 * k + 0.01] if by_class else [1]
    panels = Figure(figsize=size, layout="constrained").subplots(
        1, len(ratios), squeeze=False, width_ratios=ratios
    )[0]
    points = []
    for runs, hue in zip(groups, figures.HUES * len(groups), strict=False):
        x = [r["gflops"] for r in runs]
        y = [r["scores"][r["headline"]] for r in runs]
        panels[0].plot(x, y, "o", color=hue)
        points.append((np.mean(y), np.mean(x), runs[0]["name"]))
    title = first["headline"].replace("_", " ").replace("iou", "IoU")
    panels[0].set(xscale="log", xlabel="GFLOP a picture", title=title)
    panels[0].margins(x=0.3, y=0.15)
    low, high = panels[0].get_ylim()
    line, free = 0.055 * (high - low), -np.inf  # A name's height; from where on there is room.
    for y, x, name in sorted(points):
        free = max(y, free)
        panels[0].annotate(
            name, (x, y), xytext=(7, 72 * 0.8 * size[1] * (free - y) / (high - low)), va="center",
            textcoords="offset points", fontsize=9,
        )  # fmt: skip
        free += line
    # At other numbers there is no room for two.
    panels[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].xaxis.set_minor_formatter("")
    figures.tidy(panels[0])
    if by_class:
        shares = 100 * np.array([np.mean([r["scores"]["iou"] for r in g], 0) for g in groups])
        panels[1].imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(shares):
            tone = "white" if value > 55 else "black"
            panels[1].text(column, row, f"{value:.0f}", ha="center", va="center", color=tone)
        panels[1].set_xticks(
            range(k), first["classes"], rotation=45, ha="right", rotation_mode="anchor"
        )
        panels[1].set_yticks(range(len(names)), names)
        panels[1].set_title("IoU of each class, per cent", fontsize=11)
        panels[1].tick_params(length=0)
    figures.save(panels[0].figure, path)


def write(parts: Sequence[Table], note: str, command: str, picture: pathlib.Path) -> None:
    """Writes compare.html beside the picture, in one file."""
    names = [row[0] for row in parts[0].rows]
    values = {
        "title": "Models side by side",
        "sentence": f"{parts[0].head[1]}: " + ", ".join(f"{r[0]} {r[1]}" for r in parts[0].rows),
        "figure": page.figure(picture, "Score against cost", f"Of {', '.join(names)}."),
    }
    values |= {"note": note, "tables": parts, "command": command}
    page.write("compare.html.j2", picture.with_suffix(".html"), **values)
