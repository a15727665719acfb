import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from zoo.train import checkpoint
from zoo.train.checkpoint import Checkpoints, load_variables
from zoo.train.state import create


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
    corrupt(saved / "checkpoints" / "5")
    with pytest.raises(ValueError, match="5 cannot be read .* launch the run again"):
        load_variables(saved, which="latest")


def test_adopt_takes_every_tensor_or_none(saved):
    fresh = state_at(77, seed=1).variables()
    taken = checkpoint.adopt(fresh, saved)
    np.testing.assert_array_equal(
        taken["params"]["Dense_0"]["kernel"], state_at(2).ema["Dense_0"]["kernel"]
    )
    with pytest.raises(ValueError, match="does not fit the model: params/Dense_0/bias"):
        checkpoint.adopt(state_at(0, features=5).variables(), saved)


def test_meta_is_plain_json_on_disk(saved):
    file = saved / "checkpoints" / "5" / "meta" / "metadata"
    assert json.loads(file.read_text()) == {"best": {"step": 2, "score": 0.9}, "stale": 5}
