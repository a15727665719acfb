import importlib.util
import json
import pathlib

import numpy as np
import pytest

from zoo.__main__ import main
from zoo.data.images import Preprocess, write_rgb
from zoo.infer import export, load_run, verify

here = pathlib.Path(__file__).parent


def load(name):
    spec = importlib.util.spec_from_file_location(name, here / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


embedded, trained = load("embedded"), load("trained")


@pytest.fixture(autouse=True)
def no_compile_cache(monkeypatch, tmp_path_factory):
    """JAX's setting outlives a test; the place must, too."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "xla"))


@pytest.fixture
def pair(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (2, 9, 8, 1), np.uint8)
    for name, image in zip("ab", grey, strict=True):
        write_rgb(tmp_path / f"{name}.png", np.repeat(image, 3, 2))
    return tmp_path / "a.png", tmp_path / "b.png", grey


@pytest.mark.parametrize("judge", [False, True])
def test_distance_and_threshold(tmp_path, pair, judge):
    model, variables = embedded.write(tmp_path / "run", judge=judge)
    a, b, grey = pair
    prepared = [Preprocess(1, (0.5,), (0.25,))(x)[None] for x in grey]
    if judge:
        want = -float(model.apply(variables, *prepared)[0])
    else:
        want = np.linalg.norm(np.subtract(*[model.apply(variables, x) for x in prepared]))
    run = load_run(tmp_path / "run")
    got = verify(run, a, b)
    np.testing.assert_allclose(got["distance"], want, rtol=1e-4)
    assert got["threshold"] == embedded.THRESHOLD and got["false_accept_rate"] == embedded.RATE
    assert got["same"] == (want <= embedded.THRESHOLD)
    itself = verify(run, a, a)
    if not judge:
        assert itself["distance"] == 0 and itself["same"]
    assert verify(run, b, a)["distance"] == pytest.approx(got["distance"], rel=1e-5)


def test_a_checkpoint_without_a_threshold_is_named(tmp_path, pair):
    embedded.write(tmp_path / "run")
    with pytest.raises(ValueError, match="no validation scores of step 2, so no threshold"):
        verify(load_run(tmp_path / "run", which="latest"), *pair[:2])


def test_an_export_knows_its_threshold(tmp_path, pair):
    embedded.write(tmp_path / "run")
    run, (a, b, _) = load_run(tmp_path / "run"), pair
    export(run, tmp_path / "model.safetensors", format="safetensors")
    shipped = load_run(tmp_path / "model.safetensors")
    assert verify(shipped, a, b) == verify(run, a, b)
    unscored = load_run(tmp_path / "run", which="latest")
    (tmp_path / "bare").mkdir()
    export(unscored, tmp_path / "bare" / "model.safetensors", format="safetensors")
    with pytest.raises(ValueError, match="no validation scores of step 2"):
        verify(load_run(tmp_path / "bare"), a, b)


def test_the_command_line(tmp_path, pair, capsys):
    embedded.write(tmp_path / "run")
    a, b, _ = pair
    assert main(["verify", str(tmp_path / "run"), str(a), str(b), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"distance", "threshold", "same", "false_accept_rate"}
    assert main(["verify", str(tmp_path / "run"), str(a), str(a)]) == 0
    words = capsys.readouterr().out
    assert words.startswith("same: distance 0, threshold 0.5") and "12.5 %" in words
    out = tmp_path / "points.npz"
    assert main(["embed", str(tmp_path / "run"), str(a), str(b), "--out", str(out)]) == 0
    assert "2 pictures" in capsys.readouterr().out and out.exists()


def test_bad_input_is_one_line(tmp_path, pair, capsys):
    trained.write(tmp_path / "unet")
    a = str(pair[0])
    for arguments, message in (
        (["verify", str(tmp_path / "unet"), a, a], "trained for segmentation"),
        (["verify", str(tmp_path / "none"), a, a], "is no workdir"),
    ):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and message in printed.err and printed.err.count("\n") == 1


def test_the_threshold_is_that_of_validation(tmp_path):
    embedded.write(tmp_path)
    lines, file = tmp_path / "metrics.jsonl", tmp_path / "experiment.json"
    row = '{"step": 1, "split": "%s", "eer_threshold": 9.0, "eer_threshold_far": 0.9}\n'
    lines.write_text(row % "train" + lines.read_text() + row % "test")
    file.write_text(json.dumps({**json.loads(file.read_text()), "split": "test"}))
    assert load_run(tmp_path).validated()["eer_threshold"] == embedded.THRESHOLD
