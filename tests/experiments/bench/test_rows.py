"""That both sides of a row do the same work, where it is a number."""

import jax
import numpy as np
import pytest

from experiments.bench import encoders, inputs, mining, scores, siamese, startup


# The triplets' values are compared in tests/losses too.
@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.endswith("triplet"))
        for name in mining.LOSSES
    ],
)
def test_losses_of_both_sides_are_equal(peer, loss):
    peer("pytorch_metric_learning")
    ours, theirs = (make(loss=loss, size=64).call() for make in (mining.ours, mining.theirs))
    assert ours > 0.01
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_scores_of_both_sides_are_equal(peer):
    peer("torchmetrics")
    shape = [2, 40, 50]
    theirs = scores.theirs(shape=shape).call()
    assert 0.6 < theirs < 0.8  # A fifth is wrong, so about 0.8 / 1.2.
    assert scores.ours(shape=shape).call() == pytest.approx(theirs, rel=1e-6)


@pytest.mark.slow
def test_a_peer_that_needs_torchvision_is_imported(peer):
    peer("segmentation_models_pytorch")
    assert startup.imports(module=startup.PEER).call() is None


@pytest.mark.parametrize("name", encoders.NETS.values())
def test_encoders_of_both_sides_run(peer, name):
    peer("torch")
    for make, options in ((encoders.ours, {}), (encoders.theirs, {"compiled": False})):
        assert make(model=name, batch=2, **options).call() is None


def test_the_siamese_task_takes_the_row_s_batches():
    assert siamese.ours(pairs=siamese.BATCH).call() is None  # It raised KeyError once.


@pytest.mark.slow
def test_keras_has_the_network_of_the_course(keras):
    from zoo.models import SiameseEncoder, SiameseVerifier

    model = SiameseVerifier(SiameseEncoder(dropout_rate=0.0))
    x, y, _ = siamese.data(4)
    variables = jax.jit(model.init)(jax.random.key(0), x, y)
    net, params = siamese.keras_model(), variables["params"]
    assert net.count_params() == sum(leaf.size for leaf in jax.tree.leaves(params)) == 19_890
    ours = [params["encoder"][name] for name in ("Conv_0", "Conv_1", "Dense_0")] + [params["head"]]
    net.set_weights([np.array(layer[key]) for layer in ours for key in ("kernel", "bias")])
    want = net([x, y], training=False)
    got = jax.nn.sigmoid(jax.jit(model.apply)(variables, x, y))
    np.testing.assert_allclose(got, np.asarray(want)[:, 0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_pictures_are_made_once_and_an_epoch_is_read(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs.tempfile, "gettempdir", lambda: str(tmp_path))
    case = inputs.ours(kind=kind, count=inputs.BATCH, kept=False)
    made = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.*"))
    assert len(made) == 2 * inputs.BATCH
    case.call()
    case.call()
    inputs.files(kind, inputs.BATCH)
    assert made == sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.*"))
