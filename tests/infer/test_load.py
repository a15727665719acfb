import importlib.util
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import zoo
from zoo.data.images import Preprocess
from zoo.infer import load, load_run
from zoo.models import UNet

spec = importlib.util.spec_from_file_location(
    "trained", pathlib.Path(__file__).with_name("trained.py")
)
trained = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trained)


def same(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert jax.tree.structure(got) == jax.tree.structure(want)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "shapes"
    trained.write(path, size=(16, 24))
    return path


def test_load_gives_the_model_and_its_best_variables(workdir):
    model, variables = zoo.load(workdir)
    assert model == UNet(num_classes=3, width=4, depth=1)
    same(variables, trained.variables(model, 1))
    assert model.apply(variables, np.zeros((1, 5, 7, 3), np.float32)).shape == (1, 5, 7, 3)
    _, variables = load(str(workdir), which="latest")
    same(variables, trained.variables(model, 2))


def test_load_run_tells_what_pictures_and_ids_mean(workdir):
    run = load_run(workdir)
    assert (run.name, run.step, run.info) == ("shapes_unet", 1, trained.INFO)
    assert run.preprocess == Preprocess(3, (0.5,) * 3, (0.25,) * 3, (16, 24))
    assert load_run(workdir, which="latest").step == 2


def test_averages_and_batch_statistics_are_loaded(tmp_path):
    model = UNet(num_classes=3, width=4, depth=1, norm="batch", padding="VALID")
    trained.write(tmp_path, model=model, ema=True)
    got, variables = load(tmp_path)
    assert got == model
    same(variables["params"], trained.variables(model, 11)["params"])
    same(variables["batch_stats"], trained.variables(model, 1)["batch_stats"])


def test_an_export_within_a_workdir_does_not_stand_for_it(tmp_path):
    trained.write(tmp_path)
    run = load_run(tmp_path)
    zoo.export(run, tmp_path / "m.safetensors", format="safetensors")
    assert load_run(tmp_path, which="latest").step == 2
    assert load_run(tmp_path / "m.safetensors").step == 1
    shutil.copy(tmp_path / "m.safetensors", tmp_path / "first.safetensors")
    with pytest.raises(ValueError, match="it belongs to m.safetensors, not to first.safetensors"):
        load_run(tmp_path / "first.safetensors")


def test_what_cannot_be_loaded_is_named(workdir, tmp_path):
    with pytest.raises(ValueError, match="nowhere is no workdir"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'best' or 'latest'; got 'worst'"):
        load(workdir, which="worst")
    broken = tmp_path / "broken"
    shutil.copytree(workdir, broken)
    fields = json.loads((broken / "experiment.json").read_text())
    fields["model"]["width"] = 8
    (broken / "experiment.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="does not fit the model"):
        load(broken)
    shutil.rmtree(broken / "checkpoints")
    with pytest.raises(ValueError, match="no checkpoint"):
        load(broken)
