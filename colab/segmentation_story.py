# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Segmentation, from the sliding window to the Tiramisu
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vision-zoo/blob/main/colab/segmentation_story.ipynb)
#
# *Which class is each pixel?* Four answers from the history of the field, on the same pictures,
# each trained for the same few steps: a small network that slides over every pixel; FCN, which
# computes the whole picture at once but coarsely; U-Net, which brings the fine detail back through
# skip connections; and FC-DenseNet, the "hundred-layer Tiramisu", made of dense blocks. All of them
# are small here, so that a CPU needs three to four minutes for the notebook.

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
import time

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from experiments.datasets import DigitScenes
from zoo.data import Data, open_source
from zoo.data.batches import train_batches
from zoo.data.images import Preprocess
from zoo.metrics import confusion_matrix, segmentation_scores
from zoo.models import FCN8s, PatchClassifier, UNet, sliding_window
from zoo.models.tiramisu import FCDenseNet
from zoo.train.parallel import AXIS, Layout
from zoo.train.segmentation import BoundSegmentation
from zoo.train.state import create
from zoo.train.step import make_train_step

STEPS, BATCH = 60, 8
BATCH += -BATCH % jax.device_count()  # Every device takes as many pictures.

# %% [markdown]
# ## 1. The pictures
#
# Scenes of three to six handwritten digits on a textured background, made by a program. Digits and
# background have random colours, so **no pixel shows its class by itself**: a network must look at
# its surroundings. To see something after a minute we ask for two classes only, digit or ground
# (the background). Some scenes have a frame whose class is unknown ("void", 255): it counts in no
# loss and no score. In the lower row violet is ground, green is digit and yellow is void; only the
# last of these scenes has such a frame.

# %%
OPTIONS = dict(train_scenes=400, validation_scenes=1, test_scenes=32)
train_source, test_source = (
    open_source(DigitScenes.name, split, options=OPTIONS) for split in ("train", "test")
)
info = train_source.info
preprocess = Preprocess(info.channels, info.mean, info.std)


def two_classes(label):
    """0 for ground, 1 for any digit; void stays void."""
    return np.where(label == info.ignore_label, info.ignore_label, label > 0).astype(np.int32)


items = train_batches(train_source, Data(DigitScenes.name, batch_size=BATCH), preprocess, seed=0)
scenes = [test_source[i] for i in range(len(test_source))]
images = np.stack([preprocess(scene["image"]) for scene in scenes])
truth = np.stack([two_classes(scene["label"]) for scene in scenes])


def batch(step):
    """What step `step` trains on: it depends on the number alone."""
    return items[step] | {"label": two_classes(items[step]["label"])}


figure, panels = plt.subplots(2, 6, figsize=(11, 3.9), layout="constrained")
for (above, below), place in zip(panels.T, (0, 1, 2, 3, 4, 22), strict=True):
    above.imshow(scenes[place]["image"])
    below.imshow(truth[place], cmap="viridis", vmin=0, vmax=2)
    above.set_axis_off()
    below.set_axis_off()

# %% [markdown]
# ## 2. A window around every pixel
#
# Ciresan et al. (NIPS 2012) classified each pixel from the window around it: a $64 \times 64$
# picture has 4,096 windows, and neighbouring windows share nearly all of their work. Run over the
# **whole picture at once** (poolings move by one pixel instead of two, and later filters are
# dilated to match), the same network with the same parameters gives **the same logits**:
#
# $$\text{slide}(f, x)[i, j] = f(\text{window of } x \text{ around } (i, j)) = F(x)[i, j]$$
#
# **Look at** the two times. *Try:* a larger `window` (47 fits). Which of the two times grows
# faster?

# %%
patch = PatchClassifier(num_classes=2, window=31, kernels=(4, 5, 4), width=8, hidden=16)
untrained = patch.init(jax.random.key(0), images[:1])
SIDE = 32  # Of a corner of one picture; sliding over all of it takes four times as long.
corner = images[:1, :SIDE, :SIDE]


def timed(function, *arguments):
    """The result, and the seconds of a second call: the first compiles."""
    jax.block_until_ready(function(*arguments))
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - start


with jax.default_matmul_precision("highest"):  # A TPU would round to bfloat16, each its own way.
    slid, slow = timed(jax.jit(functools.partial(sliding_window, patch)), untrained, corner)
    dense, fast = timed(jax.jit(patch.apply), untrained, corner)
apart = float(jnp.abs(slid - dense).max() / jnp.abs(dense).max())
print(f"{SIDE * SIDE:,} windows: {1000 * slow:.0f} ms; at once: {1000 * fast:.1f} ms")
print(f"{slow / fast:.0f} times faster; the logits differ by {apart:.0e} of the largest")

# %% [markdown]
# ## 3. Four networks, one step
#
# A step is a pure function, $(\text{state}, \text{batch}) \to \text{state}$: the gradient of
# pixel-wise cross-entropy, averaged over all pixels that are not void, moves the parameters.
# `Layout` maps it with `jax.pmap` over all devices, however many there are: each device takes its
# part of the batch, the sums are added up over the devices, and are divided **once**.
#
# | | idea | answers at |
# |---|---|---|
# | patches (Ciresan et al., 2012) | a classifier of windows, run all at once | every pixel |
# | FCN-8s (Long et al., 2015) | coarse scores, up-sampled | 8 px, then interpolated |
# | U-Net (Ronneberger et al., 2015) | down and up, a skip at every size | every pixel |
# | FC-DenseNet (Jegou et al., 2017) | U-Net's shape, made of dense blocks | every pixel |
#
# In a dense block each layer reads the maps of all layers before it.

# %%
task = BoundSegmentation(info)
everywhere = Layout("pmap")
NETWORKS = {
    "patches": (patch, 1e-2),
    "FCN-8s": (FCN8s(num_classes=2, width=4, dropout_rate=0.0), 3e-3),
    "U-Net": (UNet(num_classes=2, width=8, depth=2, norm="batch", dropout_rate=0.0), 1e-2),
    "FC-DenseNet": (
        FCDenseNet(num_classes=2, growth_rate=6, blocks=(2, 2), features=12, dropout_rate=0.0),
        1e-2,
    ),
}


def train(model, rule, steps, layout):
    """Parameters after some steps on the devices of a layout, and the loss of each step."""
    step = layout.map(make_train_step(model.clone(axis_name=AXIS), task, rule))
    state, losses = layout.put(create(model, (images[:1],), rule, seed=0, ema=False)), []
    for n in range(steps):
        state, metrics = step(state, layout.split(batch(n)))
        losses.append(float(metrics["loss"]))
    return jax.device_get(state.variables()), losses


print(f"{everywhere.count} device(s)")
trained, losses, predictions, rows = {}, {}, {}, []
for name, (model, rate) in NETWORKS.items():
    rule = optax.adamw(optax.cosine_decay_schedule(rate, STEPS))
    start = time.perf_counter()
    trained[name], losses[name] = train(model, rule, STEPS, everywhere)
    minutes = (time.perf_counter() - start) / 60
    logits, seconds = timed(jax.jit(model.apply), trained[name], images)
    predictions[name] = np.argmax(logits, axis=-1)
    matrix = confusion_matrix(predictions[name], truth, 2, info.ignore_label)
    scores = segmentation_scores(np.asarray(matrix))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(trained[name]["params"]))
    rows.append(
        (name, parameters, 1000 * seconds / len(images), scores["mean_iou"], scores["iou"][1])
    )
    print(f"{name}: loss {losses[name][0]:.3f} -> {losses[name][-1]:.3f} in {minutes:.1f} min")

# %% [markdown]
# ## 4. Time and score
#
# Intersection over union of a class is $\frac{|\text{truth} \cap \text{prediction}|}{|\text{truth}
# \cup \text{prediction}|}$, counted over all pixels of all test scenes; its mean over the classes
# is the usual score. "All ground" is the score of a network that never says digit: compare with
# that, not with 0. "Patches" is the classifier of section 2, run over the whole picture at once;
# slid over every window it would take as many times longer as was measured there.
#
# **Look at** what each network finds after so few steps. U-Net is the best so far; the others may
# pass it later. FCN-8s still says "ground" nearly everywhere: it has thirteen convolutions without
# batch norm, and the paper starts them from VGG16, trained on a million pictures. Here it starts
# from random parameters. *Try:* `STEPS = 400`. Which network gains most?

# %%
nothing = confusion_matrix(np.zeros_like(truth), truth, 2, info.ignore_label)
floor = segmentation_scores(np.asarray(nothing))["mean_iou"]
print(f"{'':15} parameters  ms/picture  mean IoU  IoU of digit")
print(f"{'all ground':15} {0:10,} {0:11.1f} {floor:9.3f} {0:13.3f}")
for name, parameters, milliseconds, mean_iou, iou in rows:
    print(f"{name:15} {parameters:10,} {milliseconds:11.1f} {mean_iou:9.3f} {iou:13.3f}")

figure, panels = plt.subplots(4, 6, figsize=(11, 7.6), layout="constrained")
columns = {"image": None, "truth": truth, **predictions}
for row, place in zip(panels, (0, 1, 2, 3), strict=True):
    for axes, (name, ids) in zip(row, columns.items(), strict=True):
        if ids is None:
            axes.imshow(scenes[place]["image"])
        else:
            axes.imshow(ids[place], cmap="viridis", vmin=0, vmax=2, interpolation="nearest")
        axes.set_axis_off()
        if place == 0:
            axes.set_title(name, fontsize=10)

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for name, values in losses.items():
    smooth = np.convolve(values, np.ones(8) / 8, "valid")
    axes.plot(7 + np.arange(len(smooth)), smooth, label=name)
axes.set(xlabel="step", ylabel="loss, mean of the last 8 steps")
axes.legend(frameon=False)

# %% [markdown]
# ## 5. One device or many: the same numbers
#
# With void pixels, the mean over the batch is **not** the mean of the devices' means: the devices
# do not have equally many labelled pixels. So the sums are added up over the devices and divided
# once; the statistics of batch norm are shared in the same way. Below are three steps of plain
# gradient descent on the first device and on all of them.
#
# (If there is only one device, as on a Colab TPU, both columns come from the same program. On eight
# devices they do not, and still agree.)

# %%
small = UNet(num_classes=2, width=4, depth=1, norm="batch", dropout_rate=0.0)
descent = optax.sgd(0.1)
with jax.default_matmul_precision("highest"):  # As in section 2.
    _, alone = train(small, descent, 3, Layout("pmap", everywhere.devices[:1]))
    _, together = train(small, descent, 3, everywhere)
print(f"step  1 device   {everywhere.count} device(s)")
for n, (one, all_) in enumerate(zip(alone, together, strict=True)):
    print(f"{n:4} {one:9.6f}  {all_:9.6f}")

# %% [markdown]
# ## What you should take away
#
# The cell below fails
#
# - if the windows and the whole picture disagree, or the windows are not slower;
# - if the classes are swapped;
# - if the loss of a network has not fallen by a tenth at least;
# - if patches, U-Net or FC-DenseNet finds no digit: its mean IoU must be at least 0.05 above that
# of "all ground" (FCN-8s may have learnt no more than how frequent ground is);
# - if another network than U-Net is the best after these 60 steps;
# - if the number of devices changes the numbers.
#
# (It was written for 60 steps: undo what you tried.)

# %%
assert apart < 1e-5, "slid and at once, the logits differ"
assert slow > fast, "the windows were not slower"
# Five sixths of a scene are ground: with the classes swapped, "all ground" would score less.
assert 0.35 < floor < 0.48, "the classes are swapped, or the scenes are others"
for name, values in losses.items():
    assert np.mean(values[-8:]) < 0.9 * values[0], f"{name} has learnt nothing"
score = {name: mean_iou for name, _, _, mean_iou, _ in rows}
finds = [name for name in score if score[name] > floor + 0.05]
for name in ("patches", "U-Net", "FC-DenseNet"):
    assert name in finds, f"{name} finds no digit"
best = max(score, key=score.get)
assert best == "U-Net", f"{best} is the best, not U-Net"
np.testing.assert_allclose(alone, together, rtol=1e-5, err_msg="the devices change the numbers")
print("Slid or at once, one device or many: the same numbers.")
print(f"After {STEPS} steps {', '.join(finds)} find digits.")
