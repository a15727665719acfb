"""A search beside a sort of the whole gallery."""

import importlib.util
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

import experiments.search
from zoo.__main__ import main
from zoo.data.images import read_image, write_rgb
from zoo.infer import embed, embed_files, export, load_run

spec = importlib.util.spec_from_file_location(
    "embedded", pathlib.Path(__file__).parents[1] / "infer" / "embedded.py"
)
embedded = importlib.util.module_from_spec(spec)
spec.loader.exec_module(embedded)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workdir, pictures of which two are alike, and their gallery."""
    root = tmp_path_factory.mktemp("search")
    embedded.write(root / "run")
    rng = np.random.default_rng(0)
    (root / "in").mkdir()
    for name in "abcdefgh":
        write_rgb(root / "in" / f"{name}.png", rng.integers(0, 256, (8, 8, 3), np.uint8))
    shutil.copy(root / "in" / "c.png", root / "in" / "f.png")
    embed_files(load_run(root / "run"), [root / "in"], root / "all.npz")
    return root


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("k", [1, 4, 50])
def test_the_nearest_are_those_of_a_full_sort(place, block, k, monkeypatch):
    monkeypatch.setattr(experiments.search, "BLOCK", block)
    run, image = load_run(place / "run"), place / "in" / "c.png"
    with np.load(place / "all.npz") as file:
        points, paths = file["embeddings"].astype(np.float64), file["paths"].tolist()
    query = embed(run.model, run.variables, [read_image(image, 1)], preprocess=run.preprocess)
    distances = np.sqrt(np.square(points - query).sum(1))
    order = np.argsort(distances, kind="stable")[:k]
    found = experiments.search.search(run, place / "all.npz", image, k=k)
    assert [f["path"] for f in found] == [paths[i] for i in order]
    np.testing.assert_allclose([f["distance"] for f in found], distances[order], atol=1e-12)
    # The picture itself and its copy tie: the first in the gallery comes first.
    assert [pathlib.Path(f["path"]).name for f in found][:2] == ["c.png", "f.png"][:k]


def test_the_command_finds_the_model_by_itself(place, tmp_path, capsys, monkeypatch):
    command = ["search", str(place / "all.npz"), str(place / "in" / "b.png")]
    assert main([*command, "-k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 2 and found[0] == {"path": str(place / "in" / "b.png"), "distance": 0.0}
    assert main([*command, "-k", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"0  {place / 'in' / 'b.png'}"
    # An export is the same model.
    export(load_run(place / "run"), tmp_path / "m.safetensors", format="safetensors")
    assert main([*command, "--workdir", str(tmp_path / "m.safetensors")]) == 0
    monkeypatch.setenv("HOME", str(tmp_path))  # A shell leaves the ~ as it is.
    assert main([*command, "--workdir=~/m.safetensors"]) == 0
    capsys.readouterr()


def test_names_that_are_no_utf_8(place, tmp_path, capsys):
    """Escaped in lines, as they are in JSON."""
    name = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(place / "in" / "a.png", name)
    embed_files(load_run(place / "run"), [name], tmp_path / "all.npz")
    command = ["search", str(tmp_path / "all.npz"), str(name)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"0  {tmp_path}/caf\\udce9.png\n"
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"path": str(name), "distance": 0.0}]


def test_bad_input_is_one_line(place, tmp_path, capsys):
    (tmp_path / "no.npz").write_bytes(b"no")
    np.savez(tmp_path / "old.npz", paths=["a"], embeddings=np.zeros((1, 5)))
    with np.load(place / "all.npz") as file:
        whole = dict(file)
    np.savez(tmp_path / "gone.npz", **{**whole, "model": ["/no/where", whole["model"][1]]})
    np.savez(tmp_path / "nan.npz", **{**whole, "embeddings": whole["embeddings"] * np.nan})
    np.savez(tmp_path / "short.npz", **{**whole, "paths": whole["paths"][:2]})
    for words, gallery, image, *more in (
        ("no gallery that can be read", tmp_path / "no.npz", "b.png"),
        ("no gallery that can be read", tmp_path / "old.npz", "b.png"),
        ("no gallery that can be read", tmp_path / "none.npz", "b.png"),
        ("8 paths and embeddings (8, 5) that are no points", tmp_path / "nan.npz", "b.png"),
        ("2 paths and embeddings (8, 5) that are no points", tmp_path / "short.npz", "b.png"),
        ("/no/where is no workdir", tmp_path / "gone.npz", "b.png"),
        ("was embedded by another model", place / "all.npz", "b.png", "--step=latest"),
        ("is not a file", place / "all.npz", "z.png"),
        ("k must be at least 1; got 0", place / "all.npz", "b.png", "-k0"),
    ):
        assert main(["search", str(gallery), str(place / "in" / image), *more]) == 2
        printed = capsys.readouterr()
        assert words in printed.err and printed.err.count("\n") == 1 and not printed.out
