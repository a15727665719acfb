"""What sliding a window over every pixel costs beside doing the whole image at once.

python -m experiments.sliding_window [--size 64] [--width 16] [--repeats 3]

For each window PatchClassifier slides, runs over the whole image, and stands beside two networks
that reach as far: 3x3 convolutions at full resolution, and the smallest U-Net. All have `width`
features and one picture. FLOPs are XLA's count of the lowered program (a loop's body counts once
there, so those of sliding are one window's times the pixels); times are medians after a first call,
the rounds alternating. Prints a Markdown table, the ratios of sliding to whole first.
"""

import argparse
import datetime
import functools
import os
import platform
import statistics
import time

import flax
import jax
import numpy as np

from zoo.models import PatchClassifier, UNet, sliding_window
from zoo.train.parallel import Layout

WINDOWS = {31: (4, 5, 4), 47: (4, 5, 4), 63: (4, 5, 4, 4), 95: (4, 5, 4, 4)}


def flops(function, *arguments) -> float:
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def networks(window: int, width: int):
    """The sliding network, a full-resolution one of its reach, and a U-Net of at least that."""
    patch = PatchClassifier(2, window, WINDOWS[window], width, hidden=4 * width)
    n = patch.halo
    full = PatchClassifier(2, 2 * n + 1, n * (3,), width, hidden=4 * width, pool=1)
    depth = next(depth for depth in range(1, 9) if UNet(2, width, depth).halo >= n)
    return patch, full, UNet(2, width, depth)


def drawn(model, image: np.ndarray):
    """Variables of He's variance; `init` would take long to compile."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return rng.normal(0, deviation, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), image))


def row(window: int, size: int, width: int, repeats: int) -> str:
    """A line of the table."""
    patch, full, unet = networks(window, width)
    image = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype(np.float32)
    one = image[:, :1, :1].repeat(window, 1).repeat(window, 2)
    models = {"whole": patch, "full": full, "U-Net": unet}
    weights = {name: drawn(m, image) for name, m in models.items()}
    work = {name: flops(m.apply, weights[name], image) for name, m in models.items()}
    classify = functools.partial(patch.apply, method="classify")
    work["sliding"] = size * size * flops(classify, weights["whole"], one)

    weights["sliding"] = weights["whole"]
    runs = {name: jax.jit(m.apply) for name, m in models.items()}
    runs["sliding"] = jax.jit(functools.partial(sliding_window, patch))
    logits = {name: np.asarray(run(weights[name], image)) for name, run in runs.items()}
    apart = np.abs(logits["sliding"] - logits["whole"]).max() / np.abs(logits["whole"]).max()
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(weights[name], image))
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(all_) for name, all_ in times.items()}
    cells = [f"{work['sliding'] / work['whole']:.0f}", f"{median['sliding'] / median['whole']:.0f}"]
    cells += [f"{apart:.0e}"]
    cells += [f"{work[n] / 1e9:.3g}, {median[n]:.3g} s" for n in ("sliding", *models)]
    return f"| {window} | {' | '.join(cells)} (depth {unet.depth}) |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--repeats", type=int, choices=range(1, 101), default=3, metavar="N")
    parser.add_argument("--windows", type=int, nargs="+", choices=WINDOWS, default=[*WINDOWS])
    options = parser.parse_args()
    head = ["window", "sliding / whole, FLOPs", "sliding / whole, time", "apart"]
    head += ["sliding: GFLOP, time", "whole", "full resolution", "U-Net"]
    print(f"| {' | '.join(head)} |\n|{len(head) * '---|'}")
    for window in options.windows:
        print(row(window, options.size, options.width, options.repeats), flush=True)
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    side = f"{options.size}x{options.size} px, width {options.width}, {options.repeats} rounds"
    device = Layout("jit").devices[0].device_kind
    print(f"\n{side}; {datetime.date.today()}; {device}, {platform.machine()},")
    print(f"{os.cpu_count()} cores, load {load}; jax {jax.__version__}, flax {flax.__version__}")


if __name__ == "__main__":
    main()
