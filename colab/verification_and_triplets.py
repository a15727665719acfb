# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Verification and triplets
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vision-zoo/blob/main/colab/verification_and_triplets.ipynb)
#
# *Do these two pictures show the same?* A classifier of ten digits cannot answer this for an
# eleventh digit, nor for a person it has never seen. So we learn a **distance** instead: small
# between pictures of the same thing, large between pictures of different things. Three losses, one
# network, scikit-learn's 8x8 digits; about a minute on two processor cores.

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
import dataclasses

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

import zoo
from experiments.datasets import Digits8x8, ImageFolderClasses
from zoo.data import Augment, Data, make_pairs, open_labelled
from zoo.data.images import read_image, resize_image
from zoo.losses import batch_hard_triplet, contrastive, mean
from zoo.metrics import verification_scores
from zoo.models import AlignedEncoder, SiameseVerifier
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding
from zoo.train.parallel import Layout
from zoo.train.run import Run

STEPS = 120
DATA = Data(
    name=Digits8x8.name,
    augment=Augment(rotate=10.0, shift=0.06),
)


def train(task, model, batch_size, data=DATA, rate=1e-2, snapshots=()):
    """Trains by zoo's own step: the run, its variables, and the test digits on the way."""
    experiment = Experiment(
        task=task,
        model=model,
        data=dataclasses.replace(data, batch_size=batch_size),
        optimizer=Optimizer(name="adamw", learning_rate=rate, schedule="cosine", warmup_steps=10),
        steps=STEPS,
    )
    run, maps = Run(experiment, Layout()), {}
    state = run.layout.put(run.initial_state())
    for step, batch in zip(range(STEPS + 1), run.batches(0), strict=False):
        if step in snapshots:
            maps[step] = run.embeddings(state.variables(), run.source("test"))
        if step < STEPS:
            state, metrics = run.train_step(state, run.split(batch))
    print(f"{task.loss}: loss {metrics['loss']:.3f} after {STEPS} steps")
    return run, state.variables(), maps


def judge(run, variables, split="test"):
    """Distances of pairs of a split, whether they match, and the scores of both."""
    results = run.task.results(run, variables, split)
    return results, verification_scores(results.distances, results.same)


def show_verdict(run, variables, two, threshold, cmap):
    """Draws two pictures with their distance, and whether that is "same"."""
    model, preprocess = run.experiment.model, run.preprocess
    x, y = zoo.embed(model, jax.device_get(variables), two, preprocess=preprocess)
    apart = np.linalg.norm(x - y)
    figure, panels = plt.subplots(1, 2, figsize=(4, 2.3), layout="constrained")
    for axes, picture in zip(panels, two, strict=True):
        axes.imshow(picture, cmap=cmap)
        axes.set_axis_off()
    word = "same" if apart <= threshold else "different"
    figure.suptitle(f"distance {apart:.2f}, threshold {threshold:.2f}: {word}")


# %% [markdown]
# ## 1. Pairs
#
# Verification is **binary classification of pairs**. `make_pairs` draws for each picture one
# partner of its class and one of another, so half of all pairs match. *Ask yourself:* of all pairs
# among 1,000 pictures of 10 classes, how many match? How often would a network be right that always
# says "different"?

# %%
source = open_labelled(DATA.name, "train", **DATA.opening())
first, second, same = make_pairs(source.labels, np.random.default_rng(0))
shown = np.r_[np.flatnonzero(same)[:600:150], np.flatnonzero(~same)[:600:150]]
figure, panels = plt.subplots(2, 8, figsize=(9, 2.6), layout="constrained")
for column, pair in enumerate(shown):
    for row, place in enumerate((first[pair], second[pair])):
        panels[row, column].imshow(source[place]["image"], cmap="gray_r")
        panels[row, column].set_axis_off()
    panels[0, column].set_title("same" if same[pair] else "different", fontsize=10)

# %% [markdown]
# ## 2. A verdict
#
# `SiameseVerifier` sends both pictures through **one** network $f$ (the branches share their
# weights), takes the distance of the two outputs, and turns it into a logit; the loss is binary
# cross-entropy:
#
# $$d = \lVert f(x) - f(y) \rVert, \qquad p(\text{same}) = \sigma(w d + b)$$
#
# The cell below trains it on such pairs. **Look at** $w$: it must be negative. Why? At which
# distance does the verdict change?

# %%
encoder = AlignedEncoder(features=32, widths=(32,))
verifier_run, verifier_variables, _ = train(
    Embedding(loss="pair_cross_entropy", headline="roc_auc"), SiameseVerifier(encoder), 64
)
head = jax.device_get(verifier_variables["params"]["head"])
w, b = float(head["kernel"][0, 0]), float(head["bias"][0])
turning = -b / w
print(f"w = {w:.2f}, b = {b:.2f}: 'same' below a distance of {turning:.2f}")
_, verdict = judge(verifier_run, verifier_variables)
print(f"equal error rate on the test digits: {100 * verdict['eer']:.1f} %")

# %% [markdown]
# ## 3. Contrastive loss
#
# A loss can also use the distance itself, without a verdict: it pulls matching pairs together and
# pushes the others until they are a margin $m$ apart (Hadsell, Chopra & LeCun, CVPR 2006):
#
# $$L_\text{same} = \tfrac12 d^2, \qquad L_\text{different} = \tfrac12 \max(m - d, 0)^2$$
#
# **Look at** the curve of different pairs beyond the margin: a pair that is far enough teaches
# nothing more. *Try:* which margins make sense if the embeddings are unit vectors?

# %%
CONTRASTIVE_MARGIN = 1.0
d = jnp.linspace(0, 2, 101)
origin, away = jnp.zeros((101, 2)), jnp.stack([d, jnp.zeros(101)], axis=1)
figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
for name, matches in (("same", True), ("different", False)):
    flags = jnp.full(101, matches)
    values, _ = contrastive(origin, away, flags, margin=CONTRASTIVE_MARGIN)
    axes.plot(d, values, label=name)
axes.set(xlabel="distance", ylabel="loss")
axes.legend(frameon=False)

contrastive_run, contrastive_variables, _ = train(
    Embedding(loss="contrastive", options={"margin": CONTRASTIVE_MARGIN}), encoder, 64
)

# %% [markdown]
# ## 4. Triplets, the hardest of each batch
#
# A triplet only asks that the positive is nearer than the negative, by a margin. Batch-hard takes
# for each of the $PK$ pictures ($P$ classes, $K$ pictures of each) its farthest positive and its
# nearest negative (see the notebook *mining explained*):
#
# $$L = \frac{1}{PK} \sum_a \max\Big(\max_p d_{ap} - \min_n d_{an} + m, \; 0\Big)$$
#
# **Watch the map unfold.** It shows the embeddings of the test digits, in the plane in which they
# vary most at the end of training. At step 0 the network knows nothing. *Try:*
# `options={"held_out": "7-9"}` in `DATA` trains on the digits 0-6 and tests on digits that the
# network has never seen, like a system that verifies strangers. Why is that harder, and why does it
# work at all?

# %%
TRIPLET_MARGIN = 0.2
hard_run, hard_variables, maps = train(
    Embedding(loss="batch_hard_triplet", options={"margin": TRIPLET_MARGIN}, images_per_class=8),
    encoder,
    56,
    snapshots=(0, 5, 20, STEPS),
)
test = hard_run.source("test")
centre = maps[STEPS].mean(0)
_, _, directions = np.linalg.svd(maps[STEPS] - centre, full_matrices=False)
figure, panels = plt.subplots(1, len(maps), figsize=(13, 3.6), layout="constrained")
for axes, (step, points) in zip(panels, maps.items(), strict=True):
    plane = (points - centre) @ directions[:2].T
    for digit in np.unique(test.labels):
        axes.plot(*plane[test.labels == digit].T, ".", label=digit, markersize=4)
    axes.set(title=f"step {step}", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[])
figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", markerscale=3)

# %% [markdown]
# ## 5. Where to draw the line: ROC and threshold
#
# Accept a pair if $d \leq t$. A larger $t$ accepts more matching pairs (true accepts) and more of
# the others (false accepts): the ROC curve shows all $t$ at once. On the grey line, false accepts
# are as frequent as false rejects; where a curve crosses it is its **equal error rate**. The
# threshold is chosen on *validation* pictures and kept: chosen on the test pictures, it would make
# the result look better than it is.
#
# **Compare** the curves with that of the pixels themselves. *Ask yourself:* a bank uses this check
# before it opens an account. Which end of the curve does it want? And a photo album?

# %%
pictures = np.stack([test[i]["image"] for i in range(len(test))]).reshape(len(test), -1) / 255
hard_results, hard_scores = judge(hard_run, hard_variables)
contrastive_results, contrastive_scores = judge(contrastive_run, contrastive_variables)
i, j = hard_results.pairs
raw = np.linalg.norm(pictures[i] - pictures[j], axis=1)
distances = {
    "pixels": raw,
    "verifier": judge(verifier_run, verifier_variables)[0].distances,
    "contrastive": contrastive_results.distances,
    "batch-hard": hard_results.distances,
}
scores = {name: verification_scores(d, hard_results.same) for name, d in distances.items()}
_, chosen = judge(hard_run, hard_variables, "validation")
threshold = chosen["eer_threshold"]
accepted = hard_results.distances <= threshold

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
for name, d in distances.items():
    far, tar, _ = roc_curve(hard_results.same, -d)
    left.plot(far, tar, label=f"{name}, equal error {100 * scores[name]['eer']:.1f} %")
left.plot([0, 1], [1, 0], color="0.8", linewidth=0.8)
left.set(xlabel="false accepts", ylabel="true accepts", xlim=(0, 0.5), ylim=(0.5, 1.01))
left.legend(frameon=False, loc="lower right")
for name, chosen_pairs in (("same", hard_results.same), ("different", ~hard_results.same)):
    right.hist(hard_results.distances[chosen_pairs], np.linspace(0, 2, 50), alpha=0.6, label=name)
right.axvline(threshold, color="black", label=f"validation threshold {threshold:.2f}")
right.set(xlabel="distance, batch-hard", ylabel="pairs of test digits")
right.legend(frameon=False)
accuracy = np.mean(accepted == hard_results.same)
print(f"at the validation threshold {100 * accuracy:.1f} % of the test pairs are judged right")

# %% [markdown]
# ## 6. Two pictures of your own
#
# In Colab, choose two pictures with **one** handwritten digit each, cropped close to the digit (or
# click *Cancel upload* to go on). Elsewhere put their paths into `OWN`. If you do not give exactly
# two, two test digits are used.

# %%
OWN = []
if "google.colab" in sys.modules:
    from google.colab import files

    OWN = list(files.upload())


def as_digit(path):
    """A picture file as the data has digits: 8x8, bright ink on black."""
    picture = read_image(path, 1)
    return resize_image(picture if picture.mean() < 128 else 255 - picture, (8, 8))


if len(OWN) == 2:
    two = [as_digit(path) for path in OWN]
else:
    print(f"{len(OWN)} pictures were given, not two: here are two test digits, both an 8.")
    two = [test[int(place)]["image"] for place in np.flatnonzero(test.labels == 8)[:2]]
show_verdict(hard_run, hard_variables, two, threshold, "gray_r")

# %% [markdown]
# ## 7. Two faces of your own
#
# A network trained on digits knows nothing of faces, and no set of faces may be shipped with this
# notebook. So you need one of your own: set `FACES` to a **folder of persons**, in which pictures
# are named `person/picture.jpg`, with at least ten persons and at least four pictures of each,
# cropped close to the face (the [ORL faces](https://cam-orl.co.uk/facedatabase.html) are such a
# folder; in Colab upload a zip and unpack it, or mount your Drive). Put the paths of two more
# pictures into `OWN_FACES`, if possible of somebody who is *not* in the folder; otherwise you see
# one picture of each of two different persons who were held out.
#
# The threshold is chosen on persons who were held out of the training, so it is valid for
# strangers. The network sees histograms of gradients instead of pixels: from only a few persons,
# convolutions learn details that do not carry over to others.

# %%
FACES, OWN_FACES = "", []
if FACES:
    face_run, face_variables, _ = train(
        Embedding(
            loss="batch_hard_triplet", options={"margin": TRIPLET_MARGIN}, images_per_class=4
        ),
        AlignedEncoder(features=128, widths=(), orientations=8, dropout_rate=0.0, symmetric=True),
        16,
        data=Data(
            name=ImageFolderClasses.name,
            path=FACES,
            size=(56, 46),
            options={"channels": 1, "validation_share": 0.4, "test_share": 0.0},
            augment=Augment(flip=True, scale=(0.8, 1.25), rotate=15.0, shift=0.1, contrast=0.4),
        ),
        rate=3e-4,
    )
    _, strangers = judge(face_run, face_variables, "validation")
    print(f"equal error rate on the persons held out: {100 * strangers['eer']:.1f} %")
    held_out = face_run.source("validation")
    two = [read_image(path, 1) for path in OWN_FACES]
    if len(two) != 2:
        print(f"{len(two)} pictures were given, not two: here are two persons who were held out.")
        places = np.unique(held_out.labels, return_index=True)[1]  # The first of each person.
        two = [held_out[int(place)]["image"] for place in places[:2]]
    show_verdict(face_run, face_variables, two, strangers["eer_threshold"], "gray")

# %% [markdown]
# ## What you should take away
#
# The cell below fails if you change a margin above, or swap "same" and "different". It also fails
# if a loss did not make the network better than the pixels themselves. (It was written for all ten
# digits: undo what you tried.)

# %%
np.testing.assert_array_equal(source.labels[first] == source.labels[second], same)
assert same.mean() == 0.5
# By hand: a pair 0.3 apart that matches, one 0.3 and one 1.4 apart that do not; margin 1.
points = jnp.array([[0.3, 0.0], [0.3, 0.0], [1.4, 0.0]])
flags = jnp.array([True, False, False])
values, _ = contrastive(jnp.zeros((3, 2)), points, flags, margin=CONTRASTIVE_MARGIN)
np.testing.assert_allclose(values, [0.09 / 2, 0.49 / 2, 0], rtol=1e-5, atol=1e-7)
# By hand: two classes on a line, at 0 and 1, and at 2.5 and 4; margin 0.2.
line, kinds = jnp.array([[0.0], [1.0], [2.5], [4.0]]), jnp.array([0, 0, 1, 1])
by_hand = [0, 0, 1.5 - 1.5 + 0.2, 0]
values, weights = batch_hard_triplet(line, kinds, margin=TRIPLET_MARGIN)
np.testing.assert_allclose(values, by_hand, rtol=1e-5, atol=1e-7)
np.testing.assert_allclose(mean(values, weights), 0.2 / 4, rtol=1e-5)

# Trained, each loss errs less than the pixels do; swapped labels would err more than chance.
errors = {name: score["eer"] for name, score in scores.items()}
assert w < 0 < turning < 2
assert errors["batch-hard"] < 0.15 < errors["pixels"]
assert max(errors["verifier"], errors["contrastive"]) < errors["pixels"]
assert accuracy > 0.85
assert maps[STEPS].std(0).mean() > maps[0].std(0).mean()  # It has unfolded.
assert not FACES or strangers["eer"] < 0.25
print("equal error rates:", {name: round(error, 3) for name, error in errors.items()})
