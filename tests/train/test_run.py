"""What an experiment says reaches the programs, the batches and the mining."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.datasets import Digits8x8, DigitScenes
from zoo.data.config import Data
from zoo.data.info import Info
from zoo.models import AlignedEncoder, SiameseEncoder
from zoo.train import embedding
from zoo.train import run as run_module
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding
from zoo.train.parallel import Layout
from zoo.train.run import Run
from zoo.train.segmentation import Segmentation

SCENES = Data(
    name=DigitScenes.name,
    batch_size=2,
    options={"train_scenes": 20, "validation_scenes": 9, "test_scenes": 8},
)
DIGITS = Data(name=Digits8x8.name, batch_size=16, options={"held_out": "7,8,9"})
HARD = Embedding(loss="batch_hard_triplet", options={"margin": 0.5})
ENCODER = SiameseEncoder(features=3, width=2)
TRIPLETS = Embedding(loss="triplet", options={"margin": 0.5}, renew_every=4)


class Pixel(nn.Module):
    """One layer, with dropout: quick to compile."""

    num_classes: int = 11
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train=False):
        x = nn.Dropout(0.5, deterministic=not train)(image)
        return nn.Dense(self.num_classes, name="head")(x)


def run_of(task=HARD, data=DIGITS, model=ENCODER, **fields):
    rule = Optimizer(name="adam", learning_rate=1e-2, ema=0.9)
    fields = {"optimizer": rule, "steps": 9, **fields}
    return Run(Experiment(task, model, data, **fields), Layout(devices=jax.devices()[:1]))


def test_the_seed_and_the_average_reach_the_step():
    runs = [run_of(Segmentation(), SCENES, Pixel(), seed=seed) for seed in (0, 1)]
    state, batch = runs[0].initial_state(), runs[0].train_items()[0]
    (after, a), (_, b) = (jax.jit(run.step)(state, batch) for run in runs)
    assert a["loss"] != b["loss"]  # Dropout.
    old, new, mean = (tree["head"]["kernel"] for tree in (state.params, after.params, after.ema))
    assert not np.array_equal(runs[1].initial_state().params["head"]["kernel"], old)
    np.testing.assert_allclose(mean, old + 0.9 * (new - old), rtol=1e-4)  # Its first decay: 1/10.


@pytest.mark.parametrize("task", [HARD, Embedding(loss="contrastive", options={"margin": 0.5})])
def test_the_seed_reaches_the_batches(task):
    first, again, other = (run_of(task, seed=seed).train_items()[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert not np.array_equal(first["label"], other["label"])


def test_parts_of_fewer_than_two_classes_are_refused():
    """Of one class there is no negative: the loss would be 0, and nothing learnt."""
    parts = Optimizer(name="adam", learning_rate=1e-2, accumulate=4)  # Of 4 classes x 4 pictures.
    run, pairs = run_of(optimizer=parts), Embedding(loss="contrastive", options={"margin": 0.5})
    variables = jax.eval_shape(ENCODER.init, jax.random.key(0), *run.blank_inputs())
    with pytest.raises(ValueError, match=r"accumulate=4 cuts .*=16 into parts of less than two"):
        run.check(variables)
    run_of(optimizer=dataclasses.replace(parts, accumulate=2)).check(variables)
    run_of(pairs, optimizer=parts).check(variables)


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ({"gallery": "train"}, {}, "'test' cannot be scored: the gallery 'train' has none of its"),
        ({}, {"crop": (6, 6)}, "'validation' cannot be scored .*see data.size"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_training(task, data, message):
    """No class of the test split is in the gallery; pictures are of another size than trained."""
    model = AlignedEncoder(features=3, widths=(2,))
    run = run_of(
        dataclasses.replace(HARD, **task), dataclasses.replace(DIGITS, **data), model, split="test"
    )
    variables = jax.eval_shape(model.init, jax.random.key(0), *run.blank_inputs())
    with pytest.raises(ValueError, match=message):
        run.check(variables)


def test_a_one_shot_headline_needs_groups_that_are_large_enough(monkeypatch):
    """Else the first evaluation would end the run, with all its steps unsaved."""
    task = dataclasses.replace(HARD, headline="one_shot_accuracy")
    few = type("Few", (list,), {})(range(40))
    few.labels, few.drawers = np.arange(40) // 2, np.arange(40) % 2
    few.groups = few.labels // 19  # Of 19 characters and of one.
    run = run_of()
    bound = task.bind(run.info)
    monkeypatch.setattr(run, "source", lambda split: few)
    with pytest.raises(ValueError, match="'validation' .*: no group's drawers share 20 classes"):
        bound.check(run)
    few.groups = few.labels * 0
    bound.check(run)
    few.drawers = few.labels % 2  # Each has drawn characters of their own.
    with pytest.raises(ValueError, match="no group's drawers share"):
        bound.check(run)


def test_turned_pictures_are_trained_as_classes_of_their_own():
    turned = run_of(dataclasses.replace(HARD, turn_classes=True)).train_items()
    # Four classes a batch: an epoch of the seven digits in eight positions each.
    assert len(np.unique([turned[n]["label"] for n in range(14)])) == 8 * 7


def test_classes_of_few_pictures_repeat_or_are_left_out():
    """Of digits 0-6 each has 174 pictures at least, none 500."""
    short = dataclasses.replace(HARD, images_per_class=500)
    data = dataclasses.replace(DIGITS, batch_size=1000)
    assert run_of(short, data).train_items()[0]["label"].shape == (1000, 1)
    with pytest.raises(ValueError, match="there are 0 classes to draw from"):
        run_of(dataclasses.replace(short, short="left_out"), data).train_items()


def test_what_is_mined_is_what_the_task_says(monkeypatch):
    run = run_of(dataclasses.replace(TRIPLETS, mining="hard"))
    seen = {}
    monkeypatch.setattr(
        embedding, "mine_triplets_offline", lambda *given, **how: seen.update(how) or [0] * 3
    )
    fake = types.SimpleNamespace(train_source=run.train_source, embeddings=lambda *_: None)
    run.task.mine(fake, {}, (0, 0))
    assert seen == {"kind": "hard", "margin": 0.5, "squared": True}


def test_a_row_of_mined_triplets_is_anchor_positive_negative():
    run = run_of(TRIPLETS)
    points = np.random.default_rng(0).normal(size=(len(run.train_source), 3))
    fake = types.SimpleNamespace(train_source=run.train_source, embeddings=lambda *_: points)
    label = run.train_items(run.task.mine(fake, {}, (0, 0)))[0]["label"]
    assert (label[:, 0] == label[:, 1]).all() and (label[:, 0] != label[:, 2]).all()


@pytest.mark.parametrize("loss", ["contrastive", "pair_cross_entropy", "triplet"])
def test_the_loss_of_a_row_by_hand(loss):
    """Pictures are embedded one after the other, row by row; the last row is padding."""
    label = np.array([[0, 0, 1], [0, 1, 2], [2, 1, 0], [1, 1, 2], [0, 0, 1]], np.int32)
    points, weight = np.random.default_rng(0).normal(size=(5, 3, 2)), np.array([1, 1, 1, 1, 0.0])
    points[4] = np.nan
    same, (x, y, other) = label[:, 0] == label[:, 1], points.swapaxes(0, 1)
    if loss == "triplet":
        outputs, options = points.reshape(15, 2), {"margin": 0.5}
        want = np.maximum(np.square(x - y).sum(1) - np.square(x - other).sum(1) + 0.5, 0)
    elif loss == "contrastive":
        outputs, label, options = points[:, :2].reshape(10, 2), label[:, :2], {"margin": 2.0}
        d = np.linalg.norm(x - y, axis=1)
        want = np.where(same, d**2, np.maximum(2.0 - d, 0) ** 2) / 2
    else:
        outputs, label, options = x[:, 0], label[:, :2], {}  # Logits.
        want = np.log1p(np.exp(np.where(same, -outputs, outputs)))
    bound = Embedding(loss=loss, options=options).bind(
        Info("toy", 3, tuple("abc"), channels=1, mean=(0.5,), std=(0.25,))
    )
    values, weights = bound.loss(jnp.asarray(outputs), {"label": label, "weight": weight})
    assert len(np.unique(want[:4])) > 2  # Not all are clipped to 0.
    np.testing.assert_allclose(values, np.where(weight > 0, want, 0), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(weights, weight)


def test_the_seed_reaches_the_mining(tmp_path, monkeypatch):
    rows = []
    for seed in (0, 1):
        run = run_of(dataclasses.replace(TRIPLETS, mining="random"), seed=seed)
        points = np.zeros((len(run.train_source), 3), np.float32)
        monkeypatch.setattr(run, "embeddings", lambda variables, source, points=points: points)
        (workdir := tmp_path / str(seed)).mkdir()
        rows.append(run.mined(workdir, 0, {})["negative"])
    assert not np.array_equal(*rows)


def test_the_next_evaluation_batch_is_under_way_when_one_is_read(monkeypatch):
    """So that devices need not wait for the host, which adds up."""
    run, events = run_of(), []

    def program(variables, batch):
        events.append("dispatched")
        return batch["weight"]

    monkeypatch.setattr(run_module, "to_host", lambda x: events.append("read") or np.asarray(x))
    weights = np.concatenate(list(run._results(program, {}, run.source("validation"))))
    assert weights.sum() == len(run.source("validation"))
    count = len(weights) // 16
    steps = (count - 1) * ["dispatched", "read"]
    assert events == ["dispatched", *steps, "read"] and count > 2
