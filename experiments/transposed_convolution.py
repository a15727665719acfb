"""Draws what a transposed convolution does: copy the weighted filter, sum where copies overlap.

python -m experiments.transposed_convolution [FILE.png]
"""

import argparse
import pathlib
import sys

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.report.figures import save
from zoo.ops import conv_transpose

IMAGE = np.array([[1, 2], [3, 4]], np.float32)
KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
STRIDE = 2
HUES = ("#4477AA", "#EE6677", "#228833", "#CCBB44")


def numbers(axes: Axes, array: np.ndarray, title: str, hue: str = "0.3") -> None:
    """A grid of numbers; where there is none the cell is empty."""
    shade = np.nan_to_num(array) / 24
    axes.imshow(shade, cmap="Greys", vmin=0, vmax=2.5)
    for (row, column), value in np.ndenumerate(array):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="0.8", lw=0.6))
        if np.isfinite(value):
            axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=10)
    axes.set_title(title, fontsize=10, color=hue)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def draw(path: pathlib.Path) -> np.ndarray:
    """Writes the figure, and returns the sum of the copies, [5, 5]."""
    size = STRIDE * (len(IMAGE) - 1) + len(KERNEL)
    figure = Figure(figsize=(11, 2.5), layout="constrained")
    panels = figure.subplots(1, 7, width_ratios=(2, 3, 5, 5, 5, 5, 5))
    numbers(panels[0], IMAGE, "input")
    numbers(panels[1], KERNEL, "filter")
    total = np.zeros((size, size), np.float32)
    for place, hue, axes in zip(np.ndindex(IMAGE.shape), HUES, panels[2:6], strict=True):
        copy = np.full((size, size), np.nan)
        corner = [STRIDE * i for i in place]
        where = tuple(slice(c, c + len(KERNEL)) for c in corner)
        copy[where] = IMAGE[place] * KERNEL
        total[where] += copy[where]
        numbers(axes, copy, f"{IMAGE[place]:g} x filter", hue)
        frame = Rectangle((corner[1] - 0.5, corner[0] - 0.5), 3, 3, fill=False, ec=hue, lw=2)
        axes.add_patch(frame)
        panels[6].add_patch(Rectangle(frame.get_xy(), 3, 3, fill=False, ec=hue, lw=1.5, zorder=3))
    numbers(panels[6], total, "output: their sum")
    save(figure, path)
    return total


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.transposed_convolution", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "path", nargs="?", type=pathlib.Path, default="transposed_convolution.png",
        metavar="FILE.png", help="where the figure goes (default: %(default)s)",
    )  # fmt: skip
    path = parser.parse_args(argv).path
    total = draw(path)
    image, kernel = IMAGE[None, ..., None], KERNEL[..., None, None]
    found = conv_transpose(image, kernel, STRIDE, "VALID")
    np.testing.assert_array_equal(found[0, ..., 0], total)
    print(f"{path}: the sum of the copies is zoo.ops.conv_transpose's output.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
