# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Up-sampling by hand
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vision-zoo/blob/main/colab/upsampling_by_hand.ipynb)
#
# A segmentation network shrinks a picture to see what is in it, and must grow it again to say
# where. Here every way to grow is computed on tables small enough for pencil and paper. Do each
# table by hand **before** you run its cell. Nothing is trained; the whole notebook takes seconds.

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
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from experiments.datasets.digits8x8 import split_digits
from zoo.ops import (
    bilinear_at,
    conv_transpose,
    max_pool_with_indices,
    max_unpool,
    upsample_bilinear,
    upsample_nearest,
)


def maps(table):
    """[h, w] numbers as zoo takes them: [batch, height, width, channels], here [1, h, w, 1]."""
    return jnp.asarray(table, jnp.float32)[None, ..., None]


def draw(**tables):
    """Tables side by side, each under its name; the darker, the larger."""
    tables = {name.replace("_", " "): np.asarray(table) for name, table in tables.items()}
    widths = [table.shape[1] for table in tables.values()]
    tallest = max(table.shape[0] for table in tables.values())
    size = (0.55 * sum(widths) + 0.6, 0.55 * tallest + 0.6)
    panels = plt.subplots(
        1, len(tables), figsize=size, width_ratios=widths, squeeze=False, layout="constrained"
    )[1]
    for axes, (name, table) in zip(panels[0], tables.items(), strict=True):
        axes.imshow(table, cmap="Blues", vmin=0, vmax=2 * table.max())
        for (row, column), value in np.ndenumerate(table):
            axes.text(column, row, f"{value:g}", ha="center", va="center")
        axes.set_title(name, fontsize=10)
        axes.set(xticks=[], yticks=[])


# %% [markdown]
# ## 1. Nearest: every pixel becomes a block
#
# $$y[i, j] = x[\lfloor i / 2 \rfloor, \lfloor j / 2 \rfloor]$$
#
# **Look at** the edges between blocks: the picture is larger but shows no more detail.

# %%
small = [[4, 5], [10, 20]]
nearest = upsample_nearest(maps(small), 2)[0, ..., 0]
draw(input=small, nearest=nearest)

# %% [markdown]
# ## 2. Bilinear: between pixels, a weighted mean
#
# A pixel is a point at the **centre** of its cell. At twice the size there are twice as many
# centres, and new pixel $j$ lies at $(j + \tfrac12) / 2 - \tfrac12$ on the old axis: at
# $-\tfrac14, \tfrac14, \tfrac34, \tfrac54$. Between the old centres 0 and 1 it takes $\tfrac34$ of
# the nearer pixel and $\tfrac14$ of the farther one; outside, it takes the value at the edge:
#
# $$10, \quad \tfrac34 \cdot 10 + \tfrac14 \cdot 20 = 12.5, \quad
#   \tfrac14 \cdot 10 + \tfrac34 \cdot 20 = 17.5, \quad 20.$$
#
# **Look at** the plot: the new centres (red) lie on the line through the old ones (blue), except
# for the two outside. *Try:* what would the row be if the first and the last new pixel lay **on**
# the corners ("`align_corners=True`")? Why must one network not mix the two conventions?

# %%
corners = [[10, 20], [30, 40]]
bilinear = upsample_bilinear(maps(corners), 2)[0, ..., 0]
draw(input=corners, bilinear=bilinear)

figure, axes = plt.subplots(figsize=(5, 2.4), layout="constrained")
axes.plot([-0.5, 0, 1, 1.5], [10, 10, 20, 20], color="0.7")
axes.plot([0, 1], corners[0], "o", color="#4477AA", markersize=10, label="old centres")
axes.plot((np.arange(4) + 0.5) / 2 - 0.5, bilinear[0], "o", color="#EE6677", label="new centres")
axes.set(xlabel="place on the old axis", ylabel="value", title="the first row")
axes.legend(frameon=False)

# %% [markdown]
# ## 3. One value between four pixels
#
# Suppose a network predicts a box that starts at row 20.2, column 14.5, where there is no pixel. We
# interpolate first along the two rows, then between them:
#
# $$f(20, 14.5) = \tfrac12 \cdot 91 + \tfrac12 \cdot 210 = 150.5 \qquad
#   f(21, 14.5) = \tfrac12 \cdot 162 + \tfrac12 \cdot 95 = 128.5$$
# $$f(20.2, 14.5) = 0.8 \cdot 150.5 + 0.2 \cdot 128.5 = 146.1$$
#
# *Try:* columns first, then rows. Is the result different?

# %%
image = jnp.zeros((23, 23)).at[20:22, 14:16].set(jnp.array([[91, 210], [162, 95]]))
steps = bilinear_at(image, jnp.array([[20, 14.5], [21, 14.5], [20.2, 14.5]]))
print("f(20, 14.5), f(21, 14.5), f(20.2, 14.5) =", np.round(steps, 3))

figure, axes = plt.subplots(figsize=(3.6, 3.2), layout="constrained")
axes.imshow(image, cmap="Blues", vmax=500)
for row, column in np.ndindex(2, 2):
    axes.text(14 + column, 20 + row, f"{image[20 + row, 14 + column]:g}", ha="center", va="center")
axes.plot([14.5, 14.5], [20, 21], "o-", color="#4477AA")
axes.plot(14.5, 20.2, "*", color="#EE6677", markersize=16)
axes.text(14.62, 20.2, f"{steps[2]:.1f}", va="center", color="#CC3355")
axes.set(xlim=(13.5, 15.5), ylim=(21.5, 19.5), xticks=[14, 15], yticks=[20, 21])

# %% [markdown]
# ## 4. Max-pooling, and back to where the maxima stood
#
# Pooling keeps the largest number of each $2 \times 2$ block. If it also keeps the **place** of
# each maximum (counted row by row, $y \cdot w + x$), un-pooling can put the numbers back; all other
# pixels become zero.
#
# **Look at** the last table: the values are where they were found, not in the corners of their
# blocks. *Try:* which pixels of the input get a gradient through pooling? Compare with the last
# table.

# %%
table = [[1, 4, 3, 1], [2, 3, 5, 2], [10, 9, 2, 3], [7, 3, 4, 20]]
pooled, places = max_pool_with_indices(maps(table), (2, 2), (2, 2))
unpooled = max_unpool(pooled, places, (4, 4))
draw(input=table, pooled=pooled[0, ..., 0], places=places[0, ..., 0], unpooled=unpooled[0, ..., 0])

# %% [markdown]
# ## 5. Transposed convolution: copy the weighted filter, sum where copies overlap
#
# First in one dimension. The input is $[1, 2]$, the filter $[1, 10, 100]$, the stride 2. Each
# input pixel adds the filter times its value to the output, two places further than the pixel
# before it.

# %%
line, weights = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 10.0, 100.0]])
grown = conv_transpose(maps(line), weights[..., None, None], (1, 2), "VALID")[0, ..., 0]
draw(input=line, filter=weights, output=grown)

# %% [markdown]
# Now in two. With input side $n$, filter side $k$ and stride $s$ the output has the side
# $(n - 1) s + k$, here $(2 - 1) \cdot 2 + 3 = 5$. **Follow** the table step by step: each step adds
# one more copy. Where the second copy overlaps the first, the numbers add up:
# $1 \cdot 1 + 2 \cdot 1 = 3$.
#
# *Try:* which output pixels receive one copy, which two, which four?

# %%
pixels = np.array([[1, 2], [3, 4]], np.float32)
kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
output, steps_taken = np.zeros((5, 5), np.float32), {}
for y, x in np.ndindex(pixels.shape):
    output[2 * y : 2 * y + 3, 2 * x : 2 * x + 3] += pixels[y, x] * kernel
    steps_taken[f"after_pixel_{y},{x}"] = output.copy()
transposed = conv_transpose(maps(pixels), kernel[..., None, None], 2, "VALID")[0, ..., 0]
draw(input=pixels, filter=kernel, **steps_taken)

# %% [markdown]
# ## 6. Why "transposed"?
#
# A convolution is linear, so it is a matrix: $y = C x$. The convolution with this filter and
# stride 2 takes $5 \times 5$ pixels to $2 \times 2$, so $C$ is $4 \times 25$. **Its transpose
# takes 4 numbers to 25, and that is the transposed convolution.** The transpose also appears in the
# chain rule: if the gradient of the loss with respect to $y$ is $g$, then with respect to $x$ it is
# $C^\top g$. So the forward pass of `conv_transpose` is the backward pass of a convolution.
#
# **Look at** the rows of $C$: each is the filter, placed where one output pixel looks. *Try:* is
# $C^\top C$ the identity? Does a transposed convolution undo a convolution?


# %%
def convolve(x):
    """The convolution [1, 5, 5, 1] -> [1, 2, 2, 1] with the same filter and stride."""
    names = ("NHWC", "HWIO", "NHWC")
    exact = jax.lax.Precision.HIGHEST
    return jax.lax.conv_general_dilated(
        x, kernel[..., None, None], (2, 2), "VALID", dimension_numbers=names, precision=exact
    )


matrix = jax.jacobian(convolve)(jnp.zeros((1, 5, 5, 1))).reshape(4, 25)
by_matrix = (np.asarray(matrix).T @ pixels.reshape(4)).reshape(5, 5)
_, gradient = jax.vjp(convolve, jnp.zeros((1, 5, 5, 1)))
by_chain_rule = gradient(maps(pixels))[0][0, ..., 0]

draw(C=matrix)
draw(C_transposed_times_input=by_matrix, gradient=by_chain_rule, conv_transpose=transposed)

# %% [markdown]
# ## 7. Checkerboards
#
# With a filter of ones and an input of ones, the output counts the copies that each pixel receives.
# If the stride does not divide the filter's side, pixels receive more or fewer copies than their
# neighbours, all over the output: a checkerboard, whatever the input (Odena, Dumoulin & Olah,
# "Deconvolution and Checkerboard Artifacts", Distill 2016).
#
# **Compare** filter 3 with filter 4, both with stride 2. *Try:* filter 5, stride 3; filter 6,
# stride 3.


# %%
def copies(side, stride):
    """How many copies each output pixel receives of a 4x4 input."""
    ones = jnp.ones((side, side, 1, 1))
    return conv_transpose(maps(np.ones((4, 4))), ones, stride, "VALID")[0, ..., 0]


draw(filter_3_stride_2=copies(3, 2), filter_4_stride_2=copies(4, 2))

# %% [markdown]
# A filter of side 4 with the weights $(\tfrac14, \tfrac34, \tfrac34, \tfrac14)$ in both
# directions and stride 2 **is** bilinear interpolation, except at the border. FCN starts its
# up-sampling with this filter and then learns it.

# %%
ramp = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
start = np.outer(ramp, ramp)[..., None, None]
digits, labels, _ = split_digits()
digit = maps(digits[0])
learned_start = conv_transpose(digit, start, 2, "SAME")[0, ..., 0]
interpolated = upsample_bilinear(digit, 2)[0, ..., 0]

uneven = conv_transpose(digit, jnp.ones((3, 3, 1, 1)) / 9 * 4, 2, "SAME")[0, ..., 0]
shrunk, where = max_pool_with_indices(digit, (2, 2), (2, 2))
figure, panels = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
shown = {
    "a digit, 8x8": digit[0, ..., 0],
    "nearest": upsample_nearest(digit, 2)[0, ..., 0],
    "bilinear": interpolated,
    "pooled and un-pooled": max_unpool(shrunk, where, (8, 8))[0, ..., 0],
    "filter 3, stride 2: checkerboard": uneven,
    "filter 4, FCN's start": learned_start,
}
for axes, (name, picture) in zip(panels.flat, shown.items(), strict=True):
    axes.imshow(picture, cmap="gray")
    axes.set_title(name, fontsize=10)
    axes.set_axis_off()

# %% [markdown]
# ## What you should take away
#
# The cell below compares this notebook with tables computed by hand. It fails if you change a
# table, a filter or a convention above.

# %%
same = np.testing.assert_allclose
same(nearest, [[4, 4, 5, 5], [4, 4, 5, 5], [10, 10, 20, 20], [10, 10, 20, 20]])
same(bilinear[0], [10, 12.5, 17.5, 20])
same(bilinear[:, 0], [10, 15, 25, 30])
# A filter that is not symmetric shows which way it lies.
lying = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
same(conv_transpose(maps(np.eye(1)), lying, 2, "VALID")[0, ..., 0], lying[..., 0, 0])
same(steps, [150.5, 128.5, 146.1], rtol=1e-6)
same(pooled[0, ..., 0], [[4, 5], [10, 20]])
same(places[0, ..., 0], [[1, 6], [8, 15]])
same(unpooled[0, ..., 0], [[0, 4, 0, 0], [0, 0, 5, 0], [10, 0, 0, 0], [0, 0, 0, 20]])
same(grown, [[1, 10, 102, 20, 200]])
# By hand: only two copies reach the first row; the corners of all four, 1 + 2 + 3 + 4, the middle.
by_hand = [
    [1, 2, 3, 4, 2],
    [2, 4, 6, 8, 4],
    [4, 8, 10, 12, 6],
    [6, 12, 14, 16, 8],
    [3, 6, 7, 8, 4],
]
same(transposed, by_hand)
for way in (output, by_matrix, by_chain_rule):
    same(way, transposed, rtol=1e-6)
same(copies(3, 2)[1:5, 1:5], [[1, 2, 1, 2], [2, 4, 2, 4], [1, 2, 1, 2], [2, 4, 2, 4]])
same(copies(4, 2)[2:-2, 2:-2], np.full((6, 6), 4))  # Away from the border, even.
same(learned_start[1:-1, 1:-1], interpolated[1:-1, 1:-1], rtol=1e-5)
print("Every table agrees with those by hand.")
