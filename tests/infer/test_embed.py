import importlib
import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest

from zoo.data.images import Preprocess, write_rgb
from zoo.infer import embed, embed_files, load_run, predict_files
from zoo.models import AlignedEncoder

here = pathlib.Path(__file__).parent


def load(name):
    spec = importlib.util.spec_from_file_location(name, here / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


embedding = importlib.import_module("zoo.infer.embed")  # `zoo.infer.embed` is the function.
embedded, trained = load("embedded"), load("trained")
PREPROCESS = Preprocess(1, (0.5,), (0.25,))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "glyphs"
    embedded.write(workdir)
    return load_run(workdir)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(1)
    for name, size in (("b/one.png", (9, 8)), ("a.png", (9, 8)), ("b/deep/two.png", (7, 8))):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rgb(path, np.repeat(rng.integers(0, 256, (*size, 1), np.uint8), 3, 2))
    return tmp_path / "in"


def images(count, size, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 1), np.uint8))


def test_embeddings_are_the_models_in_order_at_any_size(run):
    mixed = [*images(70, (8, 8)), *images(2, (5, 9)), *images(1, (8, 8), seed=2)]
    got = embed(run.model, run.variables, mixed, preprocess=PREPROCESS)
    apply = jax.jit(run.model.apply)
    groups = [mixed[:70], mixed[70:72], mixed[72:]]
    want = np.concatenate(
        [apply(run.variables, np.stack([PREPROCESS(i) for i in g])) for g in groups]
    )
    assert got.shape == (73, 5) and got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_model_that_judges_pairs_embeds_by_its_encoder(tmp_path):
    model, variables = embedded.write(tmp_path / "run", judge=True)
    judge = load_run(tmp_path / "run")
    one = images(1, (8, 8))
    got = embed(judge.model, judge.variables, one, preprocess=PREPROCESS)
    own = {"params": variables["params"]["encoder"]}
    want = model.encoder.apply(own, PREPROCESS(one[0])[None])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [None, (12, 10)])
def test_an_encoder_of_one_size_is_loaded_with_it(tmp_path, size):
    """Whether `data.size` tells it or the pictures alone do; its last layer depends on it."""
    model = AlignedEncoder(features=4, widths=(2,), normalize=False)
    _, variables = embedded.write(tmp_path / "run", model=model, size=size)
    run = load_run(tmp_path / "run")
    pictures = images(3, size or (8, 8))
    got = embed(run.model, run.variables, pictures, preprocess=run.preprocess)
    want = model.apply(variables, np.stack([PREPROCESS(x) for x in pictures]))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_picture_of_another_size_than_the_encoders_is_refused(tmp_path):
    model = AlignedEncoder(features=4, widths=(2,))
    embedded.write(tmp_path / "run", model=model, size=None)
    run = load_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"AlignedEncoder cannot embed pictures of \(9, 8\)"):
        embed(run.model, run.variables, images(1, (9, 8)), preprocess=run.preprocess)


def test_large_pictures_are_few_in_a_call(run, monkeypatch):
    """64 of 33 million pixels would be 8 GiB of input alone."""
    monkeypatch.setattr(embedding, "PIXELS", 200)
    rows = []
    monkeypatch.setattr(
        embedding, "_program", lambda model: lambda v, x: rows.append(len(x)) or model.apply(v, x)
    )
    mixed = [*images(7, (8, 8)), *images(2, (20, 20))]
    got = embed(run.model, run.variables, mixed, preprocess=PREPROCESS)
    assert rows == [3, 3, 3, 1, 1]
    want = [run.model.apply(run.variables, PREPROCESS(image)[None])[0] for image in mixed]
    np.testing.assert_allclose(got, np.stack(want), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_another_size_is_refused(tmp_path):
    model = AlignedEncoder(features=4, widths=(2,))
    embedded.write(tmp_path / "run", model=model, size=(12, 10))
    path = tmp_path / "run" / "experiment.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "data": {**said["data"], "size": [8, 8]}}))
    with pytest.raises(ValueError, match="does not fit the model: params/Dense_0/kernel"):
        load_run(tmp_path / "run")


def test_no_picture_is_refused(run):
    with pytest.raises(ValueError, match="No picture was given"):
        embed(run.model, run.variables, [], preprocess=PREPROCESS)


def test_files_and_folders_at_any_depth(run, pictures, tmp_path):
    out = tmp_path / "points.npz"
    paths, _ = embed_files(run, [pictures], out)
    assert [p.relative_to(pictures).as_posix() for p in paths] == [
        "a.png", "b/deep/two.png", "b/one.png",
    ]  # fmt: skip
    with np.load(out) as file:
        assert set(file) == {"paths", "embeddings", "model"}
        assert file["paths"].tolist() == [str(p) for p in paths]
        assert file["embeddings"].shape == (3, 5) and file["embeddings"].dtype == np.float32
        first = file["embeddings"]
    embed_files(run, [pictures / "a.png"], out)  # An earlier output may be replaced.
    with np.load(out) as file:
        np.testing.assert_allclose(file["embeddings"], first[:1], rtol=1e-5)


def test_paths_mean_the_same_from_anywhere(run, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    paths, _ = embed_files(run, ["a.png", "b"], "points.npz")
    assert [str(p) for p in paths] == ["a.png", "b/deep/two.png", "b/one.png"]
    with np.load("points.npz") as file:
        assert file["paths"].tolist() == [str(pictures / p) for p in paths]


def test_nothing_else_is_replaced_or_half_written(run, pictures, tmp_path):
    mine = tmp_path / "mine.npz"
    np.savez(mine, thesis=np.arange(3))
    before = mine.read_bytes()
    (pictures / "broken.png").write_bytes(b"no picture")
    for paths, out, message in (
        ([pictures / "a.png"], mine, "holds no embeddings; choose another"),
        ([pictures / "a.png"], tmp_path / "x.npy", "must end in .npz"),
        ([pictures / "a.png"], tmp_path / "none" / "x.npz", "none is missing"),
        ([pictures], tmp_path / "x.npz", "broken.png cannot be read"),
        ([pictures / "absent.png"], tmp_path / "x.npz", "absent.png is not a file"),
    ):
        with pytest.raises(ValueError, match=message):
            embed_files(run, paths, out)
    assert mine.read_bytes() == before and not (tmp_path / "x.npz").exists()


def test_a_run_of_the_other_task_is_refused(run, pictures, tmp_path):
    trained.write(tmp_path / "unet")
    with pytest.raises(ValueError, match="unet was trained for segmentation, but this needs a run"):
        embed_files(load_run(tmp_path / "unet"), [pictures], tmp_path / "x.npz")
    with pytest.raises(ValueError, match="glyphs was trained for embedding, but this needs"):
        list(predict_files(run, [pictures], tmp_path / "out"))
    assert not (tmp_path / "x.npz").exists() and not (tmp_path / "out").exists()
