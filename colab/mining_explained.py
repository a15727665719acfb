# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Mining explained
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vision-zoo/blob/main/colab/mining_explained.ipynb)
#
# A batch of $P$ classes with $K$ pictures each holds thousands of triplets. Which of them teach?
# Here you can look at all of them: a batch of 12 digits, its distance matrix as a picture, and
# every mask that a mining loss puts on it. Nothing is trained; the notebook takes seconds.

# %%
import importlib.metadata
import importlib.util
import subprocess
import sys

from packaging.version import Version

there = filter(importlib.util.find_spec, ("jax", "jaxlib"))  # Without, pip brings them below.
found = {name: importlib.metadata.version(name) for name in there}
if Version(found.get("jax", "0.7.2")) < Version("0.7.2"):
    raise SystemExit(
        f"This notebook needs jax 0.7.2 or newer, and here is jax {found['jax']}. In Colab choose "
        "Runtime > Change runtime type > Runtime version: Latest, and run this cell again. Do not "
        "upgrade jax there: it belongs to Colab's TPU and GPU drivers. On your own computer make a "
        "new virtual environment and install vision-zoo into it."
    )
if importlib.util.find_spec("zoo") is None:
    # Whatever else pip brings, the jax that is here stays as it is.
    keep = [f"{name}=={version}" for name, version in found.items()]
    source = "git+https://github.com/OWNER/vision-zoo"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source, *keep], check=True)

import jax

devices = jax.devices()
print(f"jax {jax.__version__} found {len(devices)} device(s): {devices[0].device_kind}.")
if devices[0].platform == "cpu":
    print("No GPU or TPU: all runs on the CPU, which is enough for this notebook.")

# %%
import functools

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from experiments.datasets.digits8x8 import split_digits
from zoo.data import class_balanced_batches
from zoo.losses import (
    batch_all_triplet,
    batch_hard_triplet,
    mean,
    negative_mask,
    num_triplets,
    positive_mask,
    triplet_mask,
)
from zoo.ops import pairwise_squared_distance, safe_sqrt

P, K, MARGIN = 3, 4, 0.5

# %% [markdown]
# ## 1. The batch
#
# $P = 3$ classes, $K = 4$ pictures of each: 12 digits of scikit-learn. The embedding is each
# digit's position along the two directions in which all digits vary most (PCA), so that you can
# **see** the distances. Nobody has trained this embedding, and it shows: look how the fives mix
# with the threes.

# %%
digits, all_labels, _ = split_digits()
pixels = digits.reshape(len(digits), -1) / 16
_, _, directions = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
batches = class_balanced_batches(all_labels, classes_per_batch=P, examples_per_class=K, seed=0)
rows = batches[3]
labels = all_labels[rows].astype(np.int32)
embeddings = ((pixels - pixels.mean(0))[rows] @ directions[:2].T).astype(np.float32)

HUES = dict(zip(np.unique(labels), ("#4477AA", "#EE6677", "#228833"), strict=True))


def plane(axes):
    """The pictures of the batch, each where its embedding lies, in the colour of its class."""
    for (x, y), row, label in zip(embeddings, rows, labels, strict=True):
        axes.imshow(digits[row], cmap="Greys", extent=(x - 0.09, x + 0.09, y - 0.09, y + 0.09))
        axes.plot(x, y, "s", mfc="none", mec=HUES[label], mew=2, markersize=24)
    axes.set(xlim=(-2, 1.7), ylim=(-1.2, 0.7), xticks=[], yticks=[])


figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
plane(axes)
print("labels:", labels)

# %% [markdown]
# ## 2. The distance matrix
#
# $$d_{ij} = \lVert f(x_i) - f(x_j) \rVert$$
#
# This is all that mining needs. The batch is sorted by class, so the three blocks on the diagonal
# are the pairs of one class. **In a good embedding these blocks are dark and everything else is
# bright.** For which class is this true already?

# %%
distance = np.asarray(safe_sqrt(pairwise_squared_distance(embeddings, embeddings)))


def matrix(axes, values, title, **style):
    """A [b, b] picture with lines between the classes."""
    shown = axes.imshow(values, **style)
    for line in (K - 0.5, 2 * K - 0.5):
        axes.axhline(line, color="white", linewidth=2)
        axes.axvline(line, color="white", linewidth=2)
    axes.set_xticks(range(P * K), labels)
    axes.set_yticks(range(P * K), labels)
    axes.set_title(title, fontsize=10)
    return shown


figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
bar = figure.colorbar(matrix(axes, distance, "distance of every pair"))

# %% [markdown]
# ## 3. Who is a positive, who a negative
#
# For the anchor $a$ (a row) the positives are the other pictures of its class, and the negatives
# are all pictures of other classes. The diagonal is neither. A triplet is a positive **and** a
# negative of one anchor:
#
# $$\text{triplet}[a, p, n] = \text{positive}[a, p] \wedge \text{negative}[a, n]$$
#
# This is a cube of $12^3$ entries. In the pictures yellow is `True`. Left and middle: the rows are
# anchors. Right: the slice of the cube for one anchor.

# %%
positive, negative = positive_mask(labels), negative_mask(labels)
triplets = np.asarray(triplet_mask(labels))
ANCHOR = 8
figure, panels = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
matrix(panels[0], positive, "positive_mask")
matrix(panels[1], negative, "negative_mask")
slice_ = matrix(
    panels[2], triplets[ANCHOR], f"triplet_mask[{ANCHOR}]: positive down, negative across"
)

# %% [markdown]
# ## 4. How many are there?
#
# Each of the $PK$ pictures is an anchor, has $K - 1$ positives and $PK - K$ negatives:
#
# $$PK \, (K - 1) \, (PK - K)$$
#
# **By hand first:** $12 \cdot 3 \cdot 8 = ?$ And for $P = 18, K = 4$, a usual batch of Hermans et
# al. ("In Defense of the Triplet Loss", arXiv:1703.07737)? *Try:* which gives more triplets, to
# double $P$ or to double $K$?

# %%
count = jax.jit(lambda labels: (num_triplets(labels), triplet_mask(labels).sum()))
print("  P   K   formula  num_triplets  sum of the mask")
counts = []
for p, k in ((2, 2), (P, K), (6, 4), (3, 8), (18, 4)):
    counts.append((p * k * (k - 1) * (p * k - k), *map(int, count(np.repeat(np.arange(p), k)))))
    print(f"{p:3} {k:3} {counts[-1][0]:9,} {counts[-1][1]:13,} {counts[-1][2]:16,}")

# %% [markdown]
# ## 5. Easy, semi-hard, hard
#
# With margin $m$ the loss of a triplet is $\max(d_{ap} - d_{an} + m, 0)$. So a negative is
#
# - **easy** if $d_{an} \geq d_{ap} + m$: loss 0, nothing to learn;
# - **semi-hard** if $d_{ap} < d_{an} < d_{ap} + m$: farther than the positive, but not by the
# margin. The loss is less than $m$;
# - **hard** if $d_{an} \leq d_{ap}$: not farther than the positive. The loss is $m$ or more.
#
# **Look at** the circles around the anchor (the star): the inner one goes through the positive
# (the triangle). Count the negatives inside the inner circle, between the two and outside, and
# compare with the title.

# %%
gap = distance[:, None, :] - distance[:, :, None]  # [a, p, n]: how much farther n is than p.
hard = triplets & (gap <= 0)
semi_hard = triplets & (gap > 0) & (gap < MARGIN)
easy = triplets & (gap >= MARGIN)

POSITIVE = 10
kinds = {"hard": hard, "semi-hard": semi_hard, "easy": easy}
figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
plane(axes)
centre, radius = embeddings[ANCHOR], distance[ANCHOR, POSITIVE]
axes.add_patch(plt.Circle(centre, radius, fill=False, color="0.3"))
axes.add_patch(plt.Circle(centre, radius + MARGIN, fill=False, color="0.3", linestyle="--"))
axes.plot(*centre, "*", color="black", mec="white", markersize=22)
axes.plot(*embeddings[POSITIVE], "^", color="black", mec="white", markersize=16)
for (kind, mask), hue in zip(kinds.items(), ("#CC3311", "#EE9900", "#999999"), strict=True):
    places = embeddings[mask[ANCHOR, POSITIVE]]
    axes.plot(*places.T, "o", color=hue, markersize=9, label=kind)
axes.legend(loc="upper left")
words = ", ".join(f"{mask[ANCHOR, POSITIVE].sum()} {kind}" for kind, mask in kinds.items())
axes.set_title(f"one anchor, one positive: {words}")
print({kind: int(mask.sum()) for kind, mask in kinds.items()}, "of", int(triplets.sum()))

# %% [markdown]
# ## 6. Batch-all and batch-hard, as masks on the picture
#
# **Batch-all** takes the mean over all triplets that are not easy:
#
# $$\frac{1}{\#\{\text{active}\}} \sum_{a, p, n} \max(d_{ap} - d_{an} + m, 0)$$
#
# **Batch-hard** takes one triplet for each anchor: its farthest positive and its nearest negative.
#
# $$\frac{1}{PK} \sum_a \max\Big(\max_p d_{ap} - \min_n d_{an} + m,\; 0\Big)$$
#
# **Left:** how many active triplets each pair is in: many pairs pull a little. **Right:** the two
# pairs that batch-hard picks in each row, a circle for the positive and a cross for the negative.
# Where the negative is farther than the positive by the margin or more, the anchor has loss 0:
# there are two such rows. *Try:* give one picture a wrong label. Which of the two losses suffers
# more?

# %%
active = hard | semi_hard
is_in = active.sum(2) + active.sum(1)  # [a, j]: with j as the positive, or as the negative.
farthest = np.where(positive, distance, -np.inf).argmax(1)
nearest = np.where(negative, distance, np.inf).argmin(1)

figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
bar = figure.colorbar(matrix(panels[0], is_in, "batch-all: active triplets of a pair"))
matrix(panels[1], distance, "batch-hard: farthest positive o, nearest negative x")
panels[1].plot(farthest, range(P * K), "o", mfc="none", mec="white", mew=2, markersize=11)
marks = panels[1].plot(nearest, range(P * K), "x", color="#EE6677", mew=3, markersize=10)

# %% [markdown]
# ## 7. The library never builds the cube
#
# At $PK = 1024$ the cube would have $10^9$ entries. `batch_all_triplet` goes through the positives
# a few at a time, so that it needs $O(b^2)$ memory, and it has a gradient of its own. Is the result
# still the mean over the cube? Below is the cube in four lines; compare values and gradients.


# %%
def by_cube(embeddings):
    """Batch-all as in its formula, in O(b^3) memory."""
    d = safe_sqrt(pairwise_squared_distance(embeddings, embeddings))
    loss = jax.nn.relu(d[:, :, None] - d[:, None, :] + MARGIN) * triplets
    return loss.sum() / (loss > 0).sum()


def by_library(embeddings, loss):
    return mean(*loss(embeddings, labels, margin=MARGIN))


def value_and_gradient(function, **options):
    return jax.jit(jax.value_and_grad(functools.partial(function, **options)))


batch_all = value_and_gradient(by_library, loss=batch_all_triplet)
batch_hard = value_and_gradient(by_library, loss=batch_hard_triplet)
value, gradient = batch_all(embeddings)
cube_value, cube_gradient = value_and_gradient(by_cube)(embeddings)
hard_value, hard_gradient = batch_hard(embeddings)
apart = jnp.abs(gradient - cube_gradient).max() / jnp.abs(cube_gradient).max()
print(f"batch-all: library {value:.6f}, cube {cube_value:.6f}; gradients differ by {apart:.1e}")
print(f"batch-hard: {hard_value:.6f}")

# %% [markdown]
# The arrows point against the gradient: they show where one step would move each picture. Both
# losses pull the lone five at the top back to its class. **Compare** the fours at the bottom left:
# batch-hard moves one of them although it has no wrong neighbour; batch-all hardly moves either of
# them. Which pair of section 6 is the reason?
#
# *Try:* set `MARGIN` to 0, then to 2. When all embeddings are one point, both losses are exactly
# the margin. Why? (And why is a loss that stays at the margin the sign of a collapsed network?)

# %%
figure, panels = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
for axes, name, slope in zip(
    panels, ("batch-all", "batch-hard"), (gradient, hard_gradient), strict=True
):
    plane(axes)
    push = -np.asarray(slope).T
    axes.quiver(*embeddings.T, *push, angles="xy", scale_units="xy", scale=0.5, zorder=3)
    axes.set_title(name)

# %% [markdown]
# ## What you should take away
#
# The cell below counts again, in plain loops. It fails if you change the margin, the labels or a
# mask above.

# %%
for formula, counted, masked in counts:
    assert formula == counted == masked
assert P * K * (K - 1) * (P * K - K) == triplets.sum() == 288
assert (easy | semi_hard | hard).sum() == easy.sum() + semi_hard.sum() + hard.sum() == 288

kinds_by_loop, hardest = {"easy": 0, "semi-hard": 0, "hard": 0}, []
pairs_by_loop = np.zeros((12, 12), int)
classes = [5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3]
points = embeddings.astype(np.float64)
for a in range(12):
    d = [float(np.hypot(*(points[a] - point))) for point in points]
    near = [i for i in range(12) if i != a and classes[i] == classes[a]]
    far = [i for i in range(12) if classes[i] != classes[a]]
    assert farthest[a] == max(near, key=lambda p: d[p])
    assert nearest[a] == min(far, key=lambda n: d[n])
    hardest.append(max(d[farthest[a]] - d[nearest[a]] + 0.5, 0))
    for p in near:
        for n in far:
            kind = "hard" if d[n] <= d[p] else "semi-hard" if d[n] < d[p] + 0.5 else "easy"
            kinds_by_loop[kind] += 1
            if kind != "easy":
                pairs_by_loop[a, [p, n]] += 1
assert kinds_by_loop == {kind: mask.sum() for kind, mask in kinds.items()}
np.testing.assert_array_equal(is_in, pairs_by_loop)
assert sum(value == 0 for value in hardest) == 2
np.testing.assert_allclose(hard_value, np.mean(hardest), rtol=1e-5)
np.testing.assert_allclose(value, cube_value, rtol=1e-5)
assert apart < 1e-5
collapsed = np.zeros_like(embeddings)
np.testing.assert_allclose([batch_all(collapsed)[0], batch_hard(collapsed)[0]], 0.5, rtol=1e-6)
print("288 triplets,", kinds_by_loop, "- counted by hand and by zoo alike.")
