"""Searches of the server, and the pictures that it shows of its gallery."""

import io
import os
import pathlib

import numpy as np
import pytest
import requests
from PIL import Image

import experiments.search
from experiments.serve import server as served
from serving import embedded, png, post, running
from zoo.data.images import read_image
from zoo.infer import embed, embed_files, load_run, verify
from zoo.models import SiameseVerifier


def test_search_finds_the_nearest(encoder):
    run, gallery, paths, points = encoder
    data = png((8, 8), "L")
    image = np.asarray(Image.open(io.BytesIO(data)))[..., None]
    x = np.asarray(run.model.apply(run.variables, ((image / 255 - 0.5) / 0.25)[None]))[0]
    far = np.linalg.norm(points - x, axis=1)
    with running(run, gallery) as url:
        assert requests.get(f"{url}/api/run", timeout=9).json()["gallery"] == 6
        found = post(f"{url}/api/search?k=4", picture=("a.png", data)).json()
        assert [f["index"] for f in found] == np.argsort(far)[:4].tolist()
        np.testing.assert_allclose([f["distance"] for f in found], np.sort(far)[:4], rtol=1e-4)
        assert [f["same"] for f in found] == [f["distance"] <= embedded.THRESHOLD for f in found]
        assert [f["path"] for f in found] == [str(paths[f["index"]]) for f in found]
        shown = requests.get(f"{url}/api/gallery/2", timeout=9)
        assert shown.content == paths[2].read_bytes()
        assert shown.headers["Content-Type"] == "image/png"
        itself = post(f"{url}/api/search", picture=("a.png", paths[3].read_bytes())).json()
        assert len(itself) == 6 and itself[0]["index"] == 3 and itself[0]["distance"] < 1e-5
        for bad in ("k=0", "k=101", "k=a"):
            assert post(f"{url}/api/search?{bad}", picture=("a.png", data)).status_code == 422
        for missing in (6, -1):
            answer = requests.get(f"{url}/api/gallery/{missing}", timeout=9)
            assert answer.status_code == 404 and "no picture" in answer.json()["error"]


@pytest.mark.parametrize("judge", [False, True])
def test_search_is_that_of_the_command_line(tmp_path, monkeypatch, judge):
    """In blocks, as of a large gallery, by the distance that `verify` tells."""
    monkeypatch.setattr(experiments.search, "BLOCK", 3)
    model = SiameseVerifier(embedded.ENCODER, compare="absolute") if judge else None
    _, variables = embedded.write(tmp_path / "run", judge=judge, model=model)
    run = load_run(tmp_path / "run")
    (tmp_path / "in").mkdir()
    for n in range(8):
        (tmp_path / "in" / f"{n}.png").write_bytes(png((8, 8), "L"))
    (tmp_path / "in" / "9.png").write_bytes((tmp_path / "in" / "2.png").read_bytes())
    asked = tmp_path / "asked.png"
    asked.write_bytes(png((8, 8), "L"))
    paths, points = embed_files(run, [tmp_path / "in"], tmp_path / "gallery.npz")
    x = embed(run.model, run.variables, [read_image(asked, 1)], preprocess=run.preprocess)
    apart = np.abs(points.astype(np.float64) - x)
    want = np.sqrt(np.square(apart).sum(1))
    if judge:
        head = {key: np.asarray(v, np.float64) for key, v in variables["params"]["head"].items()}
        euclidean, want = want, -(apart @ head["kernel"] + head["bias"])[:, 0]
        assert (np.argsort(euclidean) != np.argsort(want)).any()
    order = np.argsort(want, kind="stable")
    told = experiments.search.search(run, tmp_path / "gallery.npz", asked, k=99)
    assert [f["path"] for f in told] == [str(paths[n]) for n in order]
    np.testing.assert_allclose([f["distance"] for f in told], want[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(told[4]["distance"], verify(run, asked, told[4]["path"])["distance"],
                               rtol=1e-4)  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))  # A shell leaves the ~ as it is.
    with running(run, pathlib.Path("~/gallery.npz")) as url:
        found = post(f"{url}/api/search?k=99", picture=asked.read_bytes()).json()
    assert [f["index"] for f in found] == order.tolist()
    assert [{key: f[key] for key in ("path", "distance")} for f in found] == told


def test_a_search_without_a_gallery_is_refused(encoder):
    with running(encoder[0]) as url:
        answer = post(f"{url}/api/search", picture=png((8, 8), "L"))
        assert answer.status_code == 404 and list(answer.json()) == ["error"]
        assert answer.json()["error"].startswith("This server was started without --gallery; give ")


def test_of_a_gallery_only_pictures_are_shown(encoder, tmp_path):
    """As what they are inside, whatever their names; an edited file may name any other."""
    picture, named = encoder[2][0], tmp_path / "script.html"
    named.write_bytes(picture.read_bytes())
    (tmp_path / "secret.png").write_text("no picture")
    os.mkfifo(tmp_path / "endless.png")
    names = [picture, named, tmp_path / "secret.png", tmp_path / "gone.png", tmp_path,
             tmp_path / "endless.png", tmp_path / "phone.jpg"]  # fmt: skip
    two = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (4, 4))  # And a preview behind it.
    two[0].save(names[-1], "MPO", save_all=True, append_images=two[1:])
    with np.load(encoder[1]) as arrays:
        points = np.resize(arrays["embeddings"], (len(names), 5))
        edited = {**arrays, "paths": list(map(str, names)), "embeddings": points}
        np.savez(tmp_path / "edited.npz", **edited)
    with running(encoder[0], tmp_path / "edited.npz") as url:
        shown = [requests.get(f"{url}/api/gallery/{n}", timeout=9) for n in range(len(names))]
    assert [answer.status_code for answer in shown] == [200, 200, 404, 404, 404, 404, 200]
    assert shown.pop().headers["Content-Type"] == "image/jpeg"
    for answer in shown[:2]:
        assert answer.content == picture.read_bytes()
        assert answer.headers["Content-Type"] == "image/png"
        # No page of another origin may embed it, nor this one show it for another gallery's.
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-cache"
    told = [answer.json()["error"] for answer in shown[2:]]
    assert told[0] == f"{names[2]} is none of PNG, JPEG, WEBP, BMP, GIF, TIFF inside."
    for name, words in zip(names[3:-1], told[1:], strict=True):
        assert words == f"{name} is gone; embed the gallery's pictures anew."


def test_a_gallery_of_names_that_are_no_utf_8(encoder, tmp_path):
    name = tmp_path / os.fsdecode(b"caf\xe9.png")
    name.write_bytes(encoder[2][0].read_bytes())
    embed_files(encoder[0], [name], tmp_path / "gallery.npz")
    with running(encoder[0], tmp_path / "gallery.npz") as url:
        (found,) = post(f"{url}/api/search", picture=name.read_bytes()).json()
        assert found["path"] == str(tmp_path / "caf\\udce9.png") and found["distance"] == 0
        shown = requests.get(f"{url}/api/gallery/0", timeout=9)
        assert shown.content == name.read_bytes()
        name.unlink()
        gone = requests.get(f"{url}/api/gallery/0", timeout=9)
        assert gone.status_code == 404 and "caf\\udce9.png is gone" in gone.json()["error"]


def test_a_gallery_of_another_model_is_refused(encoder, tmp_path):
    other = tmp_path / "other.npz"
    with np.load(encoder[1]) as arrays:
        np.savez(other, **{**arrays, "model": np.array(["elsewhere", "another"])})
    with pytest.raises(ValueError, match=r"embed \S+ PICTURES --out \S+other\.npz, at"):
        served.application(encoder[0], other)
