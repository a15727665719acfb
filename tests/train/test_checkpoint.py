import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from zoo.models import FCN8s, FCN16s, FCN32s, PatchClassifier, UNet
from zoo.train import checkpoint
from zoo.train.checkpoint import Checkpoints, load_variables
from zoo.train.state import TrainState, create


class Net(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(self.features)(nn.BatchNorm(not train)(x))


def state_at(step, *, features=3, ema=True, seed=0):
    """A state none of whose leaves is 0, so that a leaf that was not restored shows."""
    state = create(Net(features), (jnp.ones((1, 2)),), optax.adamw(0.1), seed=seed, ema=ema)
    leaves, tree = jax.tree.flatten(state)
    rng = np.random.default_rng(step)
    leaves = [np.asarray(x) + rng.integers(1, 9, x.shape).astype(x.dtype) for x in leaves]
    return jax.tree.unflatten(tree, leaves).replace(step=np.int32(step))


@pytest.fixture
def saved(tmp_path):
    """Steps 1 to 5, of which 2 scored best."""
    checkpoints = Checkpoints(tmp_path)
    for step in range(1, 6):
        best = {"step": min(step, 2), "score": 0.9}
        checkpoints.save(state_at(step), {"best": best, "stale": step})
    checkpoints.close()
    return tmp_path


def test_every_leaf_returns_with_its_dtype(saved):
    state, meta, passed = Checkpoints(saved).restore(state_at(0))
    jax.tree.map(np.testing.assert_array_equal, state, state_at(5))
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, state_at(5))
    assert meta == {"best": {"step": 2, "score": 0.9}, "stale": 5} and passed == []


def test_the_latest_two_and_the_best_are_kept(saved):
    assert Checkpoints(saved, read_only=True).steps() == [2, 4, 5]


@pytest.mark.parametrize("error", [OSError(28, "No space"), ValueError("RESOURCE_EXHAUSTED: zarr")])
def test_a_full_disk_is_told_with_the_way_out(tmp_path, monkeypatch, error):
    """TensorStore's own errors are ValueErrors."""

    def full(*_, **__):
        raise error

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(ValueError, match="checkpoints cannot be written .*make room for them"):
        checkpoints.save(state_at(1), {"best": None, "stale": 0})


def test_a_workdir_without_checkpoints_restores_nothing(tmp_path):
    assert Checkpoints(tmp_path).restore(state_at(0)) is None


def corrupt(folder: pathlib.Path):
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_an_unreadable_step_is_set_aside_and_the_one_before_is_used(saved):
    corrupt(saved / "checkpoints" / "5")
    checkpoints = Checkpoints(saved)
    state, meta, passed = checkpoints.restore(state_at(0))
    assert state.step == 4 and meta["stale"] == 4
    assert len(passed) == 1 and "step 5 cannot be read" in passed[0]
    assert (saved / "unreadable" / "5").is_dir()
    # The step can be saved anew.
    checkpoints.save(state_at(5), meta)
    checkpoints.close()
    assert Checkpoints(saved).restore(state_at(0))[0].step == 5


def test_nothing_readable_is_an_error_and_nothing_is_deleted(saved):
    for step in (2, 4, 5):
        corrupt(saved / "checkpoints" / str(step))
    with pytest.raises(ValueError, match="No checkpoint in .* can be read: step 5 .* step 2 "):
        Checkpoints(saved).restore(state_at(0))
    assert sorted(p.name for p in (saved / "unreadable").iterdir()) == ["2", "4", "5"]
    # Nor does the same command, given once more, begin anew in the same folder.
    with pytest.raises(ValueError, match="can be read: as before.* launch with another --workdir"):
        Checkpoints(saved).restore(state_at(0))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"features": 4}, r"Dense_0/bias is float32\[3\] there and float32\[4\] here"),
        ({"ema": False}, r"ema/BatchNorm_0/bias is float32\[2\] there and nothing here"),
    ],
)
def test_a_checkpoint_of_another_model_names_the_first_tensor(saved, other, words):
    with pytest.raises(ValueError, match=words):
        Checkpoints(saved).restore(state_at(0, **other))
    assert not (saved / "unreadable").exists()


@pytest.mark.parametrize(("which", "step"), [("best", 2), ("latest", 5)])
def test_load_variables_gives_averaged_parameters(saved, which, step):
    variables, found = load_variables(saved, which=which)
    want = state_at(step)
    assert found == step
    jax.tree.map(
        np.testing.assert_array_equal,
        variables,
        {"params": want.ema, "batch_stats": want.batch_stats},
    )


def test_load_variables_says_what_is_missing(tmp_path, saved):
    with pytest.raises(ValueError, match="holds no checkpoints; train there first"):
        load_variables(tmp_path / "none")
    with pytest.raises(ValueError, match="got 'newest'"):
        load_variables(saved, which="newest")
    corrupt(saved / "checkpoints" / "2")
    with pytest.raises(ValueError, match="2 cannot be read .* the latest may still be read"):
        load_variables(saved)
    corrupt(saved / "checkpoints" / "5")
    with pytest.raises(ValueError, match="5 cannot be read .* launch the run again"):
        load_variables(saved, which="latest")


def test_adopt_takes_every_tensor(saved):
    fresh = state_at(77, seed=1).variables()
    taken, line = checkpoint.adopt(fresh, saved, Net())
    np.testing.assert_array_equal(
        taken["params"]["Dense_0"]["kernel"], state_at(2).ema["Dense_0"]["kernel"]
    )
    assert line == f"Starting from {saved / 'checkpoints' / '2'}: 6 of 6 tensors"
    with pytest.raises(ValueError, match="does not fit the model: params/Dense_0/bias"):
        checkpoint.adopt(state_at(0, features=5).variables(), saved, Net(5))


def fcn(kind, width=1):
    """A model, and variables of its shapes whose every number is drawn."""
    model, rng = kind(num_classes=3, width=width), np.random.default_rng(len(kind.__name__))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return model, jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


def keep(workdir, variables):
    params = variables["params"]
    state = TrainState(np.int32(1), params, {}, optax.EmptyState(), None)
    checkpoints = Checkpoints(workdir)
    checkpoints.save(state, {"best": None, "stale": 0})
    checkpoints.close()


def test_a_finer_fcn_starts_from_a_coarser_one(tmp_path):
    """As the paper trains them: 32s, then 16s, then 8s."""
    chain = [FCN32s, FCN16s, FCN8s]
    news = [["score_pool4/bias", "score_pool4/kernel", "upscore16/kernel", "upscore2/kernel"]]
    news += [["score_pool3/bias", "score_pool3/kernel", "upscore8/kernel", "upscore_pool4/kernel"]]
    for coarse, fine, new in zip(chain[:2], chain[1:], news, strict=True):
        (_, old), (model, fresh) = fcn(coarse), fcn(fine)
        workdir = tmp_path / coarse.__name__
        keep(workdir, old)
        taken, line = checkpoint.adopt(fresh, workdir, model)
        taken, fresh, old = (flatten_dict(v["params"], sep="/") for v in (taken, fresh, old))
        for name, got in taken.items():
            np.testing.assert_array_equal(got, fresh[name] if name in new else old[name])
        (gone,) = set(old) - set(taken)
        assert line == (
            f"Starting from {workdir / 'checkpoints' / '1'}: {len(taken) - 4} of {len(taken)} "
            f"tensors; new are {', '.join('params/' + n for n in new)}; left out are params/{gone}"
        )


def test_adopt_takes_nothing_of_another_shape_or_name(tmp_path):
    (_, old), (model, fresh) = fcn(FCN32s), fcn(FCN16s, width=2)
    keep(tmp_path, old)
    with pytest.raises(
        ValueError, match=r"params/fc6/bias is float32\[64\] there and float32\[128"
    ):
        checkpoint.adopt(fresh, tmp_path, model)
    with pytest.raises(ValueError, match="batch_stats/BatchNorm_0/mean is nothing there"):
        checkpoint.adopt(state_at(0).variables(), tmp_path, Net())


def test_a_file_of_weights_is_for_a_model_that_takes_one(tmp_path, peer):
    torch = peer("torch")
    model, fresh = fcn(FCN16s)
    params = flatten_dict(fresh["params"], sep="/")
    tensors, numbers = {}, iter([0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28])
    for stage, n in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(n):
            kh, kw, c, out = params[f"stage_{stage}/Conv_{i}/kernel"].shape
            name = f"features.{next(numbers)}"
            tensors |= {
                f"{name}.weight": torch.rand(out, c, kh, kw),
                f"{name}.bias": torch.rand(out),
            }
    tensors |= {"classifier.0.weight": torch.rand(64, 49 * 8), "classifier.0.bias": torch.rand(64)}
    tensors |= {"classifier.3.weight": torch.rand(64, 64), "classifier.3.bias": torch.rand(64)}
    torch.save(tensors, tmp_path / "vgg.pth")
    taken, line = checkpoint.adopt(fresh, tmp_path / "vgg.pth", model)
    got = taken["params"]["fc6"]["kernel"]
    want = tensors["classifier.0.weight"].numpy()
    for c, y, x in ((0, 0, 0), (7, 6, 5), (3, 1, 4)):
        np.testing.assert_array_equal(got[y, x, c], want[:, 49 * c + 7 * y + x])
    assert "vgg.pth: 30 of 36 tensors; new are params/score_fr/bias, " in line
    np.testing.assert_array_equal(
        taken["params"]["score_fr"]["kernel"], fresh["params"]["score_fr"]["kernel"]
    )
    with pytest.raises(
        ValueError, match=r"Net takes a workdir or an export, no weights of others; got .*vgg.pth"
    ):
        checkpoint.adopt(state_at(0).variables(), tmp_path / "vgg.pth", Net())
    with pytest.raises(ValueError, match="none.safetensors cannot be read"):
        checkpoint.adopt(fresh, tmp_path / "none.safetensors", model)


@pytest.mark.parametrize("kind", ["workdir", "export"])
def test_other_classes_keep_all_but_the_head(tmp_path, kind):
    rng = np.random.default_rng(0)

    def drawn(classes, width=2):
        model = UNet(num_classes=classes, width=width, depth=1, deep_supervision=0)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        return model, jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)

    (_, old), (model, fresh) = drawn(5), drawn(7)
    if kind == "workdir":
        keep(tmp_path, old)
        source, where = tmp_path, tmp_path / "checkpoints" / "1"
    else:
        safetensors = pytest.importorskip("safetensors.numpy", reason="peers not installed")
        source = where = tmp_path / "model.safetensors"
        safetensors.save_file(flatten_dict(old, sep="/"), source)
    taken, line = checkpoint.adopt(fresh, source, model)
    head = ["params/head/bias", "params/head/kernel"]
    for name, got in flatten_dict(taken, sep="/").items():
        want = fresh if name in head else old
        np.testing.assert_array_equal(got, flatten_dict(want, sep="/")[name])
    assert line == (
        f"Starting from {where}: 14 of 16 tensors, all but the head: 5 classes there, 7 here; "
        f"new are {', '.join(head)}; left out are {', '.join(head)}"
    )
    model, fresh = drawn(7, width=3)
    with pytest.raises(ValueError, match="does not fit the model: params/decoder_0/Conv_0/bias"):
        checkpoint.adopt(fresh, source, model)


def test_a_width_that_is_the_number_of_classes_is_no_number_of_classes(tmp_path):
    def drawn(hidden):
        model = PatchClassifier(num_classes=4, window=17, kernels=(2, 3), width=6, hidden=hidden)
        return model, model.init(jax.random.key(hidden), jnp.zeros((1, 17, 17, 3)))

    (_, old), (model, fresh) = drawn(8), drawn(4)
    keep(tmp_path, old)
    with pytest.raises(ValueError, match=r"params/head/kernel is float32\[1, 1, 8, 4\] there"):
        checkpoint.adopt(fresh, tmp_path, model)


def test_meta_is_plain_json_on_disk(saved):
    file = saved / "checkpoints" / "5" / "meta" / "metadata"
    assert json.loads(file.read_text()) == {"best": {"step": 2, "score": 0.9}, "stale": 5}
