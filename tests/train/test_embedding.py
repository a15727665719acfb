"""Embedding as a task: its devices, its runs, what it refuses."""

import functools
import importlib.util
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import checks
from experiments.datasets import Digits8x8
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import ResidualEncoder, SiameseEncoder, SiameseVerifier, UNet
from zoo.train import loop
from zoo.train.checkpoint import Checkpoints
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding
from zoo.train.parallel import Layout
from zoo.train.run import Run

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "embedding_parity.py"


def load(name):
    """A module beside this file."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parity, processes = load("embedding_parity"), load("processes")
FAST = "batch_hard_triplet"  # The one loss whose steps on many devices are not slow to test.

TRIPLETS = Embedding(loss="triplet", options={"margin": 0.5}, renew_every=4)
HARD = Embedding(loss="batch_hard_triplet", options={"margin": 0.5})
ENCODER = SiameseEncoder(features=8, width=8, dropout_rate=0.1)


def experiment(task=HARD, model=ENCODER, **fields) -> Experiment:
    return Experiment(
        **{
            "task": task,
            "model": model,
            "data": Data(
                name=Digits8x8.name,
                batch_size=16,
                options={"held_out": "7,8,9"},
                augment=Augment(shift=0.1),
            ),
            "optimizer": Optimizer(name="adam", learning_rate=3e-3),
            "steps": 10,
            "log_every": 2,
            "eval_every": 5,
            "checkpoint_every": 3,
            **fields,
        }
    )


def equal(got, want, tolerance=1e-5):
    """DESIGN's "equal to t", all leaves as one vector: a last bias may have gradient 0."""
    got, want = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (got, want))
    assert np.abs(got.astype(np.float64) - want).max() <= tolerance * np.abs(want).max()


def arrays(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    step = max(checkpoints.steps())
    found, _ = checkpoints.read(step)
    checkpoints.close()
    return step, found


@pytest.fixture(scope="module")
def reference():
    """A function: a loss on one device, all in one batch."""
    return functools.cache(lambda loss: parity.train(Layout(devices=jax.devices()[:1]), loss))


@pytest.fixture(scope="module")
def reference_scores():
    one = Layout(devices=jax.devices()[:1])
    return {loss: parity.scores(one, loss) for loss in parity.SCORED}


@pytest.mark.parametrize(
    "loss", [pytest.param(x, marks=[pytest.mark.slow] * (x != FAST)) for x in parity.LOSSES]
)
def test_eight_devices_take_the_steps_of_one(reference, loss):
    assert jax.device_count() == 8
    want, metrics = reference(loss)
    moved = [np.abs(x).max() for x in jax.tree.leaves(want["momentum"])]
    assert max(moved) > 1e-3  # There was something to learn.
    for how in ("jit", "pmap", "fsdp") if loss == "batch_all_triplet" else ("jit",):
        got, found = parity.train(Layout(how), loss)
        for part in want:
            equal(got[part], want[part])
        for one, other in zip(metrics, found, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_allclose(other[name], one[name], rtol=2e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("loss", parity.SCORED)
def test_eight_devices_score_as_one(reference_scores, loss):
    want, got = reference_scores[loss], parity.scores(Layout(), loss)
    assert got.keys() == want.keys() >= {"recall_at_1", "map_at_r", "eer", "roc_auc"}
    assert 0.5 < want["roc_auc"] < 1
    for name, score in want.items():
        np.testing.assert_allclose(got[name], score, rtol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_take_the_steps_of_one(reference, reference_scores, tmp_path, count):
    """Mined counts among the metrics; and all score alike."""
    files = processes.run(count, SCRIPT, tmp_path, "jit")
    for file in files:
        found = np.load(file)
        for loss in parity.LOSSES:
            want, metrics = reference(loss)
            leaves = [found[k] for k in sorted(found) if k.startswith(f"{loss}0")]
            numbers = jax.tree.leaves(metrics)
            equal(leaves[: -len(numbers)], want)
            np.testing.assert_allclose(leaves[-len(numbers) :], numbers, rtol=2e-5)
        for loss, scores in reference_scores.items():
            for name, score in scores.items():
                got = found[f"scores {loss} {name}"]
                np.testing.assert_allclose(got, score, rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_run_of_each_kind_scores(tmp_path):
    """One step is enough to go the whole way."""
    cases = {
        "classes": (Embedding(loss="batch_all_triplet", options={"margin": 0.5}), ENCODER),
        "pairs": (Embedding(loss="contrastive"), ENCODER),
        "verdicts": (Embedding(loss="pair_cross_entropy"), SiameseVerifier(ENCODER)),
        "triplets": (TRIPLETS, ResidualEncoder(features=4, width=4, depth=2)),
    }
    for kind, (task, model) in cases.items():
        workdir = tmp_path / kind
        scores = loop.train(kind, experiment(task, model, steps=1, log_every=1), workdir, Layout())
        assert 0 <= scores["recall_at_1"] <= 1 and 0 <= scores["eer"] <= 1
        records = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
        train = [r for r in records if r["split"] == "train"]
        assert ("active_fraction" in train[0]) == (kind == "classes")
        assert ("embedding_spread" in train[0]) == (kind != "verdicts")
        assert (workdir / "mined").exists() == (kind == "triplets")
        again = loop.evaluate(experiment(task, model, steps=1), workdir, Layout())
        assert again == {**scores, "pictures": again["pictures"]} and again["pictures"] > 0


@pytest.mark.slow
def test_offline_mining_is_bit_identical_after_a_resume(tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    loop.train("offline", experiment(TRIPLETS), straight, Layout())
    # Stopped at 6, between the minings of 4 and 8.
    loop.train("offline", experiment(TRIPLETS, steps=6), broken, Layout())
    assert sorted(p.name for p in (broken / "mined").iterdir()) == ["00000000.npz", "00000004.npz"]
    loop.train("offline", experiment(TRIPLETS), broken, Layout())
    (step, want), (other, got) = arrays(straight), arrays(broken)
    assert step == other == 10
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
    for name in ("00000000.npz", "00000004.npz", "00000008.npz"):
        mined = [np.load(folder / "mined" / name) for folder in (straight, broken)]
        for key in ("anchor", "positive", "negative"):
            np.testing.assert_array_equal(mined[0][key], mined[1][key])
    # The network changed between the minings, and so did the triplets.
    first, second = (np.load(straight / "mined" / f"0000000{n}.npz") for n in (4, 8))
    assert (first["negative"] != second["negative"]).any()


@pytest.mark.slow
def test_a_lost_mining_is_named(tmp_path):
    workdir = tmp_path / "run"
    loop.train("offline", experiment(TRIPLETS, steps=6), workdir, Layout())
    (workdir / "mined" / "00000004.npz").unlink()
    with pytest.raises(ValueError, match=r"00000004\.npz, the training rows mined at step 4"):
        loop.train("offline", experiment(TRIPLETS), workdir, Layout())


@pytest.fixture(scope="module")
def run():
    return Run(experiment(split="test"), Layout())


def test_embeddings_are_those_of_the_model_in_order(run):
    variables = run.initial_state().variables()
    source = run.source("test")
    assert len(source) % 16  # The last batch is short.
    images = np.stack([run.preprocess(source[i]["image"]) for i in range(len(source))])
    want = jax.jit(ENCODER.apply)(variables, images)
    got = run.embeddings(run.layout.put(variables), source)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_the_gallery_holds_no_query_itself(run):
    """The test split searched in itself by way of a gallery = leave one out."""
    variables = run.layout.put(run.initial_state().variables())
    alone = run.task.results(run, variables, "test")
    within = Embedding(loss="batch_hard_triplet", options={"margin": 0.5}, gallery="test")
    task = within.bind(run.info)
    scores = [t.scores(t.results(run, variables, "test")) for t in (run.task, task)]
    assert scores[0] == scores[1]
    # Above ALL_PAIRS: pairs of one class and of two, enough for a false accept in ten thousand.
    assert alone.same.sum() == (~alone.same).sum() >= 50_000
    assert np.isfinite(scores[0]["tar_at_far_0.0001"])


@pytest.mark.slow
def test_collapse_is_warned_of(run):
    batch = {"label": jnp.arange(8).reshape(8, 1) // 2, "weight": jnp.ones(8)}
    for scale, warned in ((5e-3, True), (1.0, False)):
        x = 3 + scale * np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
        values, weights = run.task.loss(x, batch, jnp.arange(8))
        sums = run.task.monitor(x, batch, weights, jnp.arange(8), lambda tree: tree)
        metrics = {k: float(v) for k, v in run.task.metrics(sums).items()}
        np.testing.assert_allclose(
            metrics["embedding_spread"], np.sqrt(x.astype(float).var(0).sum()), rtol=1e-4
        )
        metrics["loss"] = float(values.sum() / weights.sum())
        warning = run.task.warning(metrics)
        assert (warning is not None) == warned
        assert not warned or "shrunk to a point" in warning


@pytest.mark.parametrize(
    ("loss", "options", "warned"),
    [
        ("triplet", {}, True),  # Always of squares: 0.15^2 is far below 0.2.
        ("batch_hard_triplet", {"squared": True}, True),
        ("batch_hard_triplet", {}, False),
    ],
)
def test_a_collapse_is_seen_in_the_unit_of_the_margin(loss, options, warned):
    task = Embedding(loss=loss, options={"margin": 0.2, **options})
    bound = task.bind(types.SimpleNamespace(name="x"))
    assert (bound.warning({"embedding_spread": 0.15, "loss": 0.2}) is not None) == warned


@pytest.mark.slow
def test_the_log_says_that_a_run_has_collapsed(tmp_path, capsys):
    """Before any training they lie close beside such a margin."""
    task = Embedding(options={"margin": 5.0})
    still = Optimizer(name="sgd", learning_rate=0.0)
    loop.train("x", experiment(task, optimizer=still, log_every=1), tmp_path / "run", Layout())
    told = [x for x in capsys.readouterr().out.splitlines() if "shrunk to a point" in x]
    assert len(told) == 1 and told[0].startswith("Warning, step 5:") and "stuck" in told[0]


def test_active_fraction_is_the_share_of_all_triplets():
    task = Embedding(loss="batch_all_triplet", options={"margin": 0.5}).bind(
        types.SimpleNamespace(name="x")
    )
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    label = np.array([0, 0, 0, 1, 1, 2])
    d = np.linalg.norm(x[:, None] - x[None], axis=-1)
    triplets = [
        d[a, p] - d[a, n] + 0.5 > 0
        for a in range(6) for p in range(6) for n in range(6)
        if a != p and label[a] == label[p] and label[a] != label[n]
    ]  # fmt: skip
    batch = {"label": jnp.array(label[:, None]), "weight": jnp.ones(6)}

    @jax.jit
    def monitored(x):
        _, weights = task.loss(x, batch, jnp.arange(6))
        return task.metrics(task.monitor(x, batch, weights, jnp.arange(6), lambda tree: tree))

    metrics = monitored(x)
    np.testing.assert_allclose(metrics["active_fraction"], np.mean(triplets), rtol=1e-6)


@pytest.mark.slow
def test_dry_run_and_overfit():
    lines = checks.dry_run("x", experiment(), "absent", Layout())
    assert "initial loss" in lines[-1]
    easy = experiment(
        optimizer=Optimizer(name="adam", learning_rate=1e-2), steps=200, model=ENCODER
    )
    assert checks.overfit(easy, 8, Layout())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "batch_hard"}, r"no loss of embeddings \(nearest: batch_hard_triplet"),
        ({"options": {"margin": 1.0}, "headline": "eer"}, "headline: expected one of recall_at_1"),
        ({"loss": "pixel_cross_entropy"}, "no loss of embeddings"),
        (
            {"options": {"margin": 1.0, "margn": 1.0}},
            r"unexpected .*'margn'; it takes margin, squared, soft; --set task.options={}",
        ),
        ({"options": {}}, r"missing a required .*'margin'; it takes margin"),
        ({"options": {"margin": 0.1}, "renew_every": 0}, "renew_every must be at least 1"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Embedding(**fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "test[:1]"}, r"'test\[:1\]' of digits8x8 has 1 pictures of 1 classes"),
        ({"split": "test[:2]"}, r"has 2 pictures of 2 classes, and pairs"),
        ({"model": UNet(num_classes=3)}, "UNet gives classes, not embeddings"),
        ({"model": SiameseVerifier(ENCODER)}, "needs an encoder.*got SiameseVerifier"),
        ({"task": Embedding(loss="pair_cross_entropy")}, "judges pairs.*got SiameseEncoder"),
        ({"task": Embedding(options={"margin": 0.1}, images_per_class=3)}, "is not divisible by"),
        ({"task": Embedding(options={"margin": 0.1}, images_per_class=1)}, "without positives"),
        ({"task": Embedding(options={"margin": 0.1}, images_per_class=2)}, "8, but there are 7"),
        ({"task": Embedding(options={"margin": 1.0}, headline="one_shot_accuracy")}, "who drew"),
    ],
)
def test_an_experiment_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path, change, message
):
    with pytest.raises(ValueError, match=message):
        loop.train("x", experiment(**change), tmp_path / "run", Layout())
    assert not (tmp_path / "run").exists()
