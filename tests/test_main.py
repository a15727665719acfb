import importlib.util
import os
import pathlib
import subprocess
import sys
import tomllib

import jax
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.__main__ import main
from zoo.data.images import overlay, read_image, read_mask, write_rgb

ROOT = pathlib.Path(__file__).parents[1]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "infer" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


embedded, trained = load("embedded"), load("trained")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "shapes"
    trained.write(path)
    return path


@pytest.fixture(autouse=True)
def no_compile_cache(monkeypatch, tmp_path_factory):
    """JAX's setting outlives a test; the place must, too."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "xla"))


@pytest.fixture
def pictures(tmp_path):
    """Two pictures of one size, so that the model is compiled once, and one in grey."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b"):
        write_rgb(folder / f"{name}.png", RNG.integers(0, 256, (13, 18, 3), dtype=np.uint8))
    deep = RNG.integers(0, 65536, (13, 18)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "c.tiff")
    return folder


def run(*args):
    return main([str(arg) for arg in args])


def refused(capsys, out, *args):
    """The one line of a refusal, after which nothing was written."""
    before = {p: p.read_bytes() for p in out.parent.rglob("*") if p.is_file()}
    assert run("predict", *args, "--out", out) == 2
    assert {p: p.read_bytes() for p in out.parent.rglob("*") if p.is_file()} == before
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    return printed.err


def test_predict_writes_ids_and_overlays(workdir, pictures, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert run("predict", workdir, pictures / "a.png", pictures / "c.tiff", "--out", out) == 0
    assert sorted(os.listdir(out)) == ["a.png", "a_overlay.png", "c.png", "c_overlay.png"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{pictures / 'a.png'} -> {out / 'a.png'}"
    assert lines[-1].startswith("2 pictures predicted by shapes_unet, step 1: ")
    assert lines[-1].endswith(f"are in {out}")
    # By hand: what the model says of the picture as training would see it.
    model, variables = zoo.load(workdir)
    for name in ("a.png", "c.tiff"):
        image = read_image(pictures / name, 3)
        x = (image.astype(np.float32) / 255 - 0.5) / 0.25
        want = np.asarray(jax.jit(model.apply)(variables, x[None])[0]).argmax(-1)
        assert len(np.unique(want)) > 1
        stem = name.partition(".")[0]
        np.testing.assert_array_equal(read_mask(out / f"{stem}.png"), want)
        with Image.open(out / f"{stem}.png") as written:
            assert written.mode == "P"
        np.testing.assert_array_equal(
            read_image(out / f"{stem}_overlay.png", 3), overlay(image, want, trained.COLOURS, 255)
        )


def test_options_reach_the_prediction(workdir, pictures, tmp_path):
    def ids(*options):
        assert run("predict", workdir, pictures / "a.png", "--out", tmp_path / "o", *options) == 0
        return read_mask(tmp_path / "o" / "a.png")

    plain = ids()
    # Depth 1: the halo is 9, so tiles of 36 px would be exact; these are not.
    assert (ids("--tile", 8, "--overlap", 0) != plain).any()
    assert (ids("--step", "latest") != plain).any()
    assert (ids("--flips") != plain).any()
    np.testing.assert_array_equal(ids("--step", "best"), plain)


def test_a_folder_stands_for_its_pictures(workdir, pictures, tmp_path, capsys):
    (pictures / "notes.txt").write_text("no picture")
    assert run("predict", workdir, pictures, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.count(" -> ") == 3
    (tmp_path / "none").mkdir()
    line = refused(capsys, tmp_path / "out2", workdir, tmp_path / "none")
    assert "none holds no pictures" in line


def test_a_name_that_is_no_utf_8_is_told_escaped(workdir, pictures, tmp_path, capsys):
    (pictures / "a.png").rename(pictures / os.fsdecode(b"caf\xe9.png"))
    assert run("predict", workdir, pictures, "--out", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line.partition(" -> ")[0] for line in lines[:3]]
    assert told == [str(pictures / name) for name in ("b.png", "c.tiff", "caf\\udce9.png")]
    assert os.fsdecode(b"caf\xe9_overlay.png") in os.listdir(tmp_path / "out")


def test_out_may_lie_in_the_home_folder(workdir, pictures, tmp_path, monkeypatch):
    """No shell expands the ~ of --out=~/x."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run("predict", workdir, pictures / "a.png", "--out=~/x") == 0
    assert sorted(os.listdir(tmp_path / "home" / "x")) == ["a.png", "a_overlay.png"]
    assert run("export", workdir, "--format=safetensors", "--out=~/m.safetensors") == 0
    assert (tmp_path / "home" / "m.safetensors").is_file()
    embedded.write(tmp_path / "glyphs")
    assert run("embed", tmp_path / "glyphs", pictures / "a.png", "--out=~/x/points.npz") == 0
    assert (tmp_path / "home" / "x" / "points.npz").is_file()
    assert not (tmp_path / "~").exists()


def test_bad_input_is_one_line(workdir, pictures, tmp_path, capsys):
    out, good = tmp_path / "out", pictures / "a.png"
    assert "missing.png is not a file" in refused(
        capsys, out, workdir, good, tmp_path / "missing.png"
    )
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-60])
    assert "cut.png cannot be read" in refused(capsys, out, workdir, good, tmp_path / "cut.png")
    assert "is no workdir" in refused(capsys, out, pictures, good)
    assert "Tiles of 7 px" in refused(capsys, out, workdir, good, "--tile", 7)
    assert "overlap of 9 does not fit" in refused(
        capsys, out, workdir, good, "--tile", 8, "--overlap", 9
    )
    assert "is a file; give a folder" in refused(capsys, tmp_path / "cut.png", workdir, good)
    assert not out.exists()
    for args in ((), ("predict",), ("predict", workdir, good), ("predicr", workdir)):
        with pytest.raises(SystemExit) as stop:
            run(*args)
        assert stop.value.code == 2


def test_two_inputs_of_one_stem_are_refused(workdir, pictures, tmp_path, capsys):
    out, a = tmp_path / "out", pictures / "a.png"
    twin = tmp_path / "a.jpg"
    Image.new("RGB", (9, 9)).save(twin)
    line = refused(capsys, out, workdir, a, twin)
    assert f"{a} and {twin} would both be written to {out / 'a.png'}" in line
    assert "would both be written" in refused(capsys, out, workdir, a, a)
    # The overlay of one is the prediction of the other.
    Image.new("RGB", (9, 9)).save(tmp_path / "a_overlay.jpg")
    assert "a_overlay.png" in refused(capsys, out, workdir, a, tmp_path / "a_overlay.jpg")


def test_an_output_never_replaces_an_input(workdir, pictures, tmp_path, capsys):
    a, b = pictures / "a.png", pictures / "b.png"
    assert "would replace the input" in refused(capsys, pictures, workdir, a)
    # By another name of the folder, and by links to the picture in either direction.
    (tmp_path / "elsewhere").symlink_to(pictures)
    assert "would replace the input" in refused(capsys, tmp_path / "elsewhere", workdir, b)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(a)
    assert "would replace the input" in refused(capsys, out, workdir, a)
    (out / "a.png").unlink()
    os.link(b, out / "a_overlay.png")
    assert "would replace the input" in refused(capsys, out, workdir, a, b)
    real = out / "real.png"
    real.write_bytes(a.read_bytes())
    (tmp_path / "real.jpg").symlink_to(real)
    assert "would replace the input" in refused(capsys, out, workdir, tmp_path / "real.jpg")


def test_import_is_light_and_names_are_there():
    code = (
        "import sys, zoo; heavy = {'jax', 'flax', 'numpy', 'cv2', 'tensorflow_datasets', 'grain'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "import zoo.__main__; assert not heavy & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    from zoo.infer.load import load
    from zoo.infer.predict import predict

    assert zoo.predict is predict and zoo.load is load
    assert zoo.models.UNet is trained.UNet
    assert {"load", "predict", "models"} <= set(dir(zoo))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = zoo.lod


def test_version_is_the_package_s(capsys):
    with open(ROOT / "pyproject.toml", "rb") as file:
        assert zoo.__version__ == tomllib.load(file)["project"]["version"]
    with pytest.raises(SystemExit):
        run("--version")
    assert capsys.readouterr().out.strip() == zoo.__version__
