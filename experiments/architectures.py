"""Draws the networks of zoo/README.md: each box is an array, its sides and channels as it came out.

python -m experiments.architectures [DIR]

Nothing is typed in but the sizes of the input and which boxes are joined: the shapes are those of
the modules' outputs, in the order of their calls, traced by `jax.eval_shape`.
"""

import argparse
import dataclasses
import math
import pathlib
import sys
from collections.abc import Mapping

import jax
from flax import linen as nn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from experiments.report.figures import save
from zoo.models import (
    AlignedEncoder,
    FCDenseNet103,
    FCN8s,
    MaxUnpoolNet,
    PatchClassifier,
    ResidualEncoder,
    SiameseEncoder,
    SiameseVerifier,
    UNet,
)  # fmt: skip

PAPER, INK, SKIP = "#FBFAF5", "#22303C", "#EE6677"  # An own background reads on a dark page too.
HUES = {"in": "#BBBBBB", "down": "#4477AA", "up": "#228833", "out": "#CCBB44"}
LEVEL = 0.62  # How much lower a box stands where the picture has half the sides.
UP = ("up", "decoder", "transition_up", "score")  # How names of the way up begin.
OUT = ("head", "Dense", "score_fr")


@dataclasses.dataclass(frozen=True)
class Drawing:
    title: str
    model: nn.Module
    size: tuple[int, ...]  # [b, h, w, c] of the input.
    skips: Mapping[str, str] = dataclasses.field(default_factory=dict)  # From a module to another.
    carried: str = ""  # What the skips carry.
    method: str = "__call__"
    inputs: int = 1  # Pictures of that size.


def _pairs(start: str, end: str, levels: int) -> dict[str, str]:
    return {f"{start}_{i}": f"{end}_{i}" for i in range(levels)}


FIGURES = {
    "encoders": (
        Drawing("SiameseEncoder, the classic small network", SiameseEncoder(), (1, 28, 28, 1)),
        Drawing("ResidualEncoder", ResidualEncoder(), (1, 28, 28, 1)),
        Drawing("AlignedEncoder", AlignedEncoder(), (1, 28, 28, 1)),
    ),
    "verifier": (
        Drawing(
            "SiameseVerifier: one encoder for both, one dense unit on their distance",
            SiameseVerifier(SiameseEncoder()), (1, 28, 28, 1), inputs=2,
        ),
    ),
    "patch_classifier": (
        Drawing(
            "PatchClassifier: one window of N4, Ciresan et al. 2012",
            PatchClassifier(num_classes=2), (1, 95, 95, 1), method="classify",
        ),
    ),
    "fcn8s": (
        Drawing(
            "FCN-8s, Shelhamer, Long & Darrell 2017", FCN8s(num_classes=21), (1, 224, 224, 3),
            {"stage_4": "score_pool4", "stage_3": "score_pool3"}, "pooled, then scored and added",
        ),
    ),
    "unpool": (
        Drawing(
            "MaxUnpoolNet: SegNet, Badrinarayanan, Kendall & Cipolla 2017",
            MaxUnpoolNet(num_classes=11), (1, 352, 480, 3), _pairs("encoder", "decoder", 5),
            "places of the maxima",
        ),
    ),
    "unet": (
        Drawing(
            "U-Net, Ronneberger, Fischer & Brox 2015", UNet(num_classes=2, padding="VALID"),
            (1, 572, 572, 1), _pairs("encoder", "decoder", 4), "cropped and concatenated",
        ),
    ),
    "tiramisu": (
        Drawing(
            "FC-DenseNet103, Jegou et al. 2017", FCDenseNet103(num_classes=11), (1, 96, 96, 3),
            _pairs("down", "up", 5), "concatenated",
        ),
    ),
}  # fmt: skip


def outputs(drawing: Drawing) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of the input and of what each of the model's own modules gives, as called."""
    found, running = [("image", drawing.size)], []

    def listen(call, args, kwargs, context):
        path = context.module.path
        inner = path in running  # Of a layer that calls its base class's: one output, not two.
        running.append(path)
        y = call(*args, **kwargs)
        running.pop()
        if len(path) == 1 and context.method_name == "__call__" and not inner:
            first = y[0] if isinstance(y, tuple) else y  # Of a dense block: maps, mean, variance.
            if isinstance(first, jax.Array) and first.ndim in (2, 4):
                found.append((path[0], first.shape))
        return y

    image = jax.ShapeDtypeStruct(drawing.size, "float32")
    with nn.intercept_methods(listen):
        jax.eval_shape(
            lambda key, *x: drawing.model.init_with_output(key, *x, method=drawing.method),
            jax.random.key(0), *[image] * drawing.inputs,
        )  # fmt: skip
    return found


def draw(axes: Axes, drawing: Drawing) -> None:
    """Boxes from left to right as computed, lower where the picture is smaller."""
    at, x, before, previous, lowest = {}, 0.0, [], None, 0.0
    for name, shape in outputs(drawing):
        side, channels = (shape[1] if len(shape) == 4 else 1), shape[-1]
        if name.startswith(("Dropout", "BatchNorm")) and shape == previous:
            continue  # As what it was given.
        previous = shape
        kind = "up" if name.startswith(UP) else "down"
        kind = "in" if name == "image" else "out" if name.startswith(OUT) else kind
        y = LEVEL * math.log2(side / drawing.size[1])
        w, h = 0.10 + 0.016 * math.sqrt(channels), 0.16 + 0.055 * math.log2(side + 1)
        sides = "×".join(map(str, shape[1:-1])) or "1"
        if before:  # An arrow up over several levels would cross the sides below its box.
            x += 0.5 * max(round((y - before[0][1]) / LEVEL) - 1, 0)
        count = drawing.inputs if name == "image" else 1
        # A second input as far below what both are joined to, a vector, as the first is above.
        heights = [y - 2 * LEVEL * math.log2(side) * n for n in range(count)]
        for y in heights:
            box = FancyBboxPatch(
                (x, y - h / 2), w, h, boxstyle="round,pad=0,rounding_size=0.03",
                facecolor=HUES[kind], edgecolor=INK, linewidth=0.7, zorder=2,
            )  # fmt: skip
            axes.add_patch(box)
            axes.text(x + w / 2, y + h / 2 + 0.05, channels, ha="center", va="bottom", fontsize=8)
            axes.text(x + w / 2, y - h / 2 - 0.05, sides, ha="center", va="top", fontsize=6.5)
        for start in before:
            arrow = {"arrowstyle": "-|>", "color": INK, "lw": 0.8, "shrinkA": 1, "shrinkB": 1}
            axes.annotate("", (x, y), start, arrowprops=arrow, zorder=1)
        at[name], before = (x, x + w, y), [(x + w, y) for y in heights]
        lowest = min(lowest, *heights)
        x += w + 0.5
    for start, end in drawing.skips.items():
        (_, left, y), (right, _, to) = at[start], at[end]
        arrow = {"arrowstyle": "-|>", "color": SKIP, "lw": 1.2, "ls": "--", "shrinkA": 2}
        axes.annotate("", (right, to), (left, y), arrowprops=arrow, zorder=0)
    axes.set_title(drawing.title, fontsize=11, color=INK, loc="left")
    words = "above a box its channels, below it its sides"
    words += f"; dashed: {drawing.carried}" if drawing.carried else ""
    axes.text(0, -0.02, words, fontsize=7.5, color=INK, transform=axes.transAxes, va="top")
    axes.set_xlim(-0.3, x)
    axes.set_ylim(lowest - 0.55, 0.75)
    axes.set_axis_off()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.architectures", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "folder", nargs="?", type=pathlib.Path, default="zoo/pictures", metavar="DIR",
        help="takes the figures (default: %(default)s)",
    )  # fmt: skip
    folder = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawings in FIGURES.items():
        height = 2.3 * len(drawings) if len(drawings) > 1 else 4.2
        figure = Figure(figsize=(10, height), layout="constrained", facecolor=PAPER)
        panels = figure.subplots(len(drawings), squeeze=False)[:, 0]
        for axes, drawing in zip(panels, drawings, strict=True):
            draw(axes, drawing)
        save(figure, folder / f"{name}.png")
        print(folder / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
