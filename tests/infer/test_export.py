"""Exported models beside the ones they were made of."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import cv2
import jax
import jax.export
import numpy as np
import pytest

import zoo
from zoo.__main__ import main
from zoo.data.images import Preprocess, read_image, read_mask, write_rgb
from zoo.infer import embed, export, load_run, predict, predict_files, predict_logits
from zoo.models import (
    AlignedEncoder,
    FCDenseNet56,
    FCN8s,
    PatchClassifier,
    ResidualEncoder,
    SiameseVerifier,
    UNet,
)

here = pathlib.Path(__file__).parent
ROOT = here.parents[1]


def module(name):
    spec = importlib.util.spec_from_file_location(name, here / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


trained, embedded = module("trained"), module("embedded")


def pictures(count, size, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, *size, channels), np.uint8)


def program(path):
    return jax.export.deserialize(bytearray(path.read_bytes()))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "shapes"
    trained.write(workdir)
    return load_run(workdir)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "shapes.stablehlo"
    assert export(run, out) == "b, h, w, 3"
    return out


@pytest.fixture(scope="module")
def pair(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("pair") / "shapes.safetensors"
    export(run, out, format="safetensors")
    return out


def test_ids_are_those_of_predict_on_real_pictures(run, exported, shared_data):
    paths = sorted((shared_data / "camvid").rglob("*.png"))[:1] or sorted(
        shared_data.rglob("*.png")
    )
    image = read_image(paths[0], 3)[:203, :301]
    call = program(exported).call
    ids = call(np.stack([image, image[::-1]]))
    assert ids.dtype == np.int32
    for got, picture in zip(ids, (image, image[::-1]), strict=True):
        want = predict(run.model, run.variables, picture, preprocess=run.preprocess)
        assert len(np.unique(want)) > 1
        np.testing.assert_array_equal(got, want)


SIZES = {
    "resized": (UNet(num_classes=3, width=4, depth=1), "b, h, w, 3", (37, 70)),
    "unpadded": (
        UNet(num_classes=3, width=2, depth=1, padding="VALID"),
        "b, h, w, 3, h >= 10, w >= 10", (37, 70),
    ),
    "mirrored": (
        PatchClassifier(num_classes=3, window=7, kernels=(2, 2), width=2, hidden=4),
        "b, h, w, 3, h >= 4, w >= 4", (13, 18),
    ),
    "statistics of each picture": (
        FCDenseNet56(
            num_classes=3, growth_rate=2, blocks=(1, 1), features=2, eval_statistics="batch"
        ),
        "b, h, w, 3", (13, 18),
    ),
    "filled up to the stride": (FCN8s(num_classes=3, width=1), "b, h, w, 3", (37, 70)),
}  # fmt: skip


SLOW = ("statistics of each picture", "filled up to the stride")


@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=[pytest.mark.slow] * (w in SLOW)) for w in SIZES]
)
def test_logits_are_those_of_the_model_at_the_freest_size(what, tmp_path):
    model, takes, size = SIZES[what]
    inner = (40, 52) if what == "resized" else None
    trained.write(tmp_path / "run", model=model, size=inner)
    # Of each channel another mean and deviation.
    known = Preprocess(3, (0.2, 0.5, 0.7), (0.2, 0.25, 0.3), inner)
    run = dataclasses.replace(load_run(tmp_path / "run"), preprocess=known)
    images = pictures(2, size)
    assert export(run, tmp_path / "program", logits=True) == takes
    got = program(tmp_path / "program").call(images)
    want = [predict_logits(model, run.variables, known(x), tile=None) for x in images]
    if inner:
        want = [cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR) for x in want]
    assert np.ptp(want) > 0
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max(), rtol=0)


@pytest.mark.parametrize(
    ("model", "size", "takes", "pictured"),
    [
        (None, None, "b, h, w, 1", (9, 14)),
        (None, (12, 10), "b, h, w, 1", (25, 7)),
        (SiameseVerifier(embedded.ENCODER), None, "b, h, w, 1", (9, 14)),
        pytest.param(
            ResidualEncoder(features=3, width=2),
            None,
            "b, 4*h, 4*w, 1",
            (12, 16),
            marks=pytest.mark.slow,
        ),
        (AlignedEncoder(features=3, widths=(2,), symmetric=True), (12, 10), "b, h, w, 1", (9, 14)),
    ],
)
def test_embeddings_are_those_of_embed(model, size, takes, pictured, tmp_path):
    judges = isinstance(model, SiameseVerifier)
    embedded.write(tmp_path / "run", judge=judges, model=model, size=size)
    run, images = load_run(tmp_path / "run"), pictures(3, pictured, 1)
    positive = {**run.variables}
    if "batch_stats" in positive:
        positive["batch_stats"] = jax.tree.map(abs, positive["batch_stats"])
    run = type(run)(**{**vars(run), "variables": positive})
    assert export(run, tmp_path / "program") == takes
    got = program(tmp_path / "program").call(images)
    want = embed(run.model, run.variables, list(images), preprocess=run.preprocess)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max(), rtol=0)


def test_a_size_that_cannot_be_free_is_named(tmp_path):
    embedded.write(tmp_path / "run", model=AlignedEncoder(features=3, widths=(2,)))
    with pytest.raises(ValueError, match="AlignedEncoder has no shape at a free size .*data.size="):
        export(load_run(tmp_path / "run"), tmp_path / "program")
    assert not (tmp_path / "program").exists()


def test_jax_and_flatbuffers_are_enough(run, exported):
    """The docstring's example, word for word, where only they and what JAX needs can be found."""
    lines = sys.modules["zoo.infer.export"].__doc__.split("```python\n")[1].split("```")[0]
    lines = lines.replace("FILE", str(exported))
    image = pictures(1, (13, 18))
    code = """
import sys
JAX = {"jax", "jaxlib", "numpy", "ml_dtypes", "scipy", "opt_einsum", "flatbuffers"}
class Only:
    # Finds nothing of other packages, as if they were not installed.
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        top = name.split(".")[0]
        # One part of the standard library is named after the machine.
        if top in JAX | sys.stdlib_module_names or top.startswith("_sysconfigdata"):
            return self.finder.find_spec(name, *rest)
sys.meta_path[:] = map(Only, sys.meta_path)
import numpy
images = numpy.random.default_rng(0).integers(0, 256, (1, 13, 18, 3), numpy.uint8)
""" + "\n".join(line.strip() for line in lines.splitlines())
    env = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = predict(run.model, run.variables, image[0], preprocess=run.preprocess)[0, 0]
    assert done.stdout.strip() == trained.INFO.class_names[first]


def test_all_platforms_are_in_it_and_the_json_tells_the_rest(exported):
    assert program(exported).platforms == ("cpu", "cuda", "tpu")
    told = json.loads(pathlib.Path(f"{exported}.json").read_text())
    assert told["input"] == "uint8[b, h, w, 3]" and told["output"] == "int32[b,h,w]"
    assert told["info"]["colours"] == [list(c) for c in trained.COLOURS]
    assert told["info"]["mean"] == [0.5] * 3 and told["zoo"] == zoo.__version__
    assert told["model"]["class"] == "zoo.models.unet.UNet" and told["step"] == 1


def test_a_pair_gives_the_run_back(run, pair):
    safetensors = pytest.importorskip("safetensors.numpy", reason="peers not installed")
    safe = safetensors.load_file(pair)
    flat = {"/".join(k.key for k in p): x for p, x in jax.tree.leaves_with_path(run.variables)}
    assert safe.keys() == flat.keys() and "params/head/bias" in safe
    for name, x in flat.items():
        np.testing.assert_array_equal(safe[name], x)
    for path in (pair, pair.parent, str(pair)):
        model, variables = zoo.load(path)
        assert model == run.model
        jax.tree.map(np.testing.assert_array_equal, variables, dict(run.variables))
    back = load_run(pair)
    assert (back.name, back.step, back.info) == (run.name, run.step, run.info)
    assert back.preprocess == run.preprocess


def test_a_pair_predicts_as_its_run(run, pair, tmp_path):
    write_rgb(tmp_path / "a.png", pictures(1, (13, 18))[0])
    for source, out in ((run, "x"), (load_run(pair), "y")):
        list(predict_files(source, [tmp_path / "a.png"], tmp_path / out))
    got, want = (read_mask(tmp_path / out / "a.png") for out in ("y", "x"))
    np.testing.assert_array_equal(got, want)


def test_damage_and_other_versions_are_named(pair, tmp_path):
    def broken(change, file="config.json"):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pair.parent, folder)
        path = folder / file
        path.write_bytes(change(path.read_bytes()))
        return folder

    def told(**changes):
        return lambda text: json.dumps({**json.loads(text), **changes}).encode()

    unknown = {
        **json.loads((pair.parent / "config.json").read_text())["model"],
        "class": "zoo.models.Net",
    }
    for folder, words in (
        (
            broken(lambda b: b[:-1], pair.name),
            "shapes.safetensors cannot be read.*export the model",
        ),
        (broken(lambda b: b[:-1] + bytes([b[-1] ^ 1]), pair.name), "sha256 is not that"),
    ):
        with pytest.raises(ValueError, match=words):
            zoo.load(folder)
    for change, words in (
        (lambda b: b[:40], "config.json cannot be read"),
        (lambda b: b"[]", "config.json cannot be read"),
        (told(parameters=2), "names of version 2, not 1: use zoo"),
        (told(model=unknown), "class 'zoo.models.Net' cannot be imported"),
        (told(file="../../etc/passwd"), "passwd"),
    ):
        with pytest.raises(ValueError, match=words):
            zoo.load(broken(change))
    (tmp_path / "alone.safetensors").write_bytes(pair.read_bytes())
    with pytest.raises(ValueError, match=r"config.json cannot be read .*No such file"):
        zoo.load(tmp_path / "alone.safetensors")


def test_nothing_of_anyone_else_is_replaced(run, pair, tmp_path):
    out = tmp_path / "m.safetensors"
    export(run, out, format="safetensors")
    export(run, out, format="safetensors")  # Its own it replaces.
    with pytest.raises(ValueError, match="config.json is there, and no export to n.safetensors"):
        export(run, tmp_path / "n.safetensors", format="safetensors")
    out.write_bytes(b"mine")
    with pytest.raises(ValueError, match="m.safetensors is there"):
        export(run, out, format="safetensors")
    assert out.read_bytes() == b"mine"
    with pytest.raises(ValueError, match=r"m\.bin: format=safetensors, but only"):
        export(run, tmp_path / "m.bin", format="safetensors")
    with pytest.raises(ValueError, match=r"n\.safetensors: format=stablehlo, but only"):
        export(run, tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match="none is missing"):
        export(run, tmp_path / "none" / "m")


def test_the_command_tells_what_it_takes(run, tmp_path, capsys):
    def do(*more):
        code = main(["export", str(run.workdir), *map(str, more)])
        return code, capsys.readouterr()

    code, said = do("--out", tmp_path / "m")
    assert code == 0 and "step 1" in said.out and "pictures [b, h, w, 3] uint8" in said.out
    code, said = do("--out", tmp_path / "w.safetensors", "--format=safetensors", "--step=latest")
    assert code == 0 and f"zoo.load('{tmp_path / 'w.safetensors'}')" in said.out
    assert load_run(tmp_path / "w.safetensors").step == 2
    (tmp_path / "mine").write_text("mine")
    code, said = do("--out", tmp_path / "mine")
    assert code == 2 and said.err.count("\n") == 1 and "choose another file" in said.err


def test_no_folder_of_the_trainer_is_shipped(run, tmp_path):
    data = dataclasses.replace(run.experiment.data, path="/home/me")
    own = dataclasses.replace(run.experiment, data=data, init_from="/home/me/old")
    export(
        dataclasses.replace(run, experiment=own), tmp_path / "m.safetensors", format="safetensors"
    )
    assert "/home/me" not in (tmp_path / "config.json").read_text()
