"""The server as a script or a browser meets it: over a socket, by another library's client."""

import io
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import requests
from PIL import Image

import experiments.search
from experiments.serve import main
from experiments.serve import server as served
from serving import RNG, by_hand, embedded, ids_of, png, post, running
from zoo.data.images import read_image, write_rgb
from zoo.infer import embed, embed_files, load_run, predict, verify
from zoo.models import SiameseVerifier

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A run, the gallery that the command line wrote, its pictures and their embeddings."""
    folder = tmp_path_factory.mktemp("encoder")
    embedded.write(folder / "run")
    run = load_run(folder / "run")
    (folder / "pictures").mkdir()
    for n, grey in enumerate(RNG.integers(0, 256, (6, 8, 8, 1), np.uint8)):
        write_rgb(folder / "pictures" / f"{n}.png", np.repeat(grey, 3, 2))
    paths, points = embed_files(run, [folder / "pictures"], folder / "gallery.npz")
    return run, folder / "gallery.npz", paths, points


def huge_png(side):
    """A whole PNG of side x side black pixels, 1 bit each, in few bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((1 + side // 8) * side), 1)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def pages(count):
    """A TIFF of so many pages, all of the same black pixel."""
    # Each with its width, height, bits, photometry, the pixel's place, rows and bytes.
    tags = [(256, 1), (257, 1), (258, 8), (262, 1), (273, 8), (278, 1), (279, 1)]
    table = struct.pack("<H", len(tags))
    table += b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    size = len(table) + 4
    links = [*(10 + size * n for n in range(1, count)), 0]
    return struct.pack("<2sHIH", b"II", 42, 10, 0) + b"".join(
        table + struct.pack("<I", link) for link in links
    )


def animated():
    file, frames = io.BytesIO(), [Image.new("L", (8, 8), level) for level in (0, 255)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def scans(count):
    """A JPEG with so many more scans, each of a few bytes and a pass over all pixels."""
    file = io.BytesIO()
    Image.new("L", (64, 64), 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + count * last + data[-2:]


def test_segments_as_the_model_does(run, url):
    data = png()
    answer = post(f"{url}/api/segment", picture=("a.png", data))
    ids, palette = ids_of(answer)
    image = np.asarray(Image.open(io.BytesIO(data)))
    want = by_hand(run, image)
    assert len(np.unique(want)) > 1
    np.testing.assert_array_equal(ids, want)
    assert palette == [0, 0, 0, 255, 0, 0, 0, 128, 255]
    assert [c["name"] for c in answer.json()["classes"]] == ["ground", "disc", "square"]
    assert [c["colour"] for c in answer.json()["classes"]] == ["#000000", "#ff0000", "#0080ff"]
    shares = [c["share"] for c in answer.json()["classes"]]
    np.testing.assert_allclose(shares, [(want == n).mean() for n in range(3)])
    np.testing.assert_array_equal(
        ids, predict(run.model, run.variables, image, preprocess=run.preprocess)
    )


def test_a_picture_is_turned_as_its_exif_says(run, url):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
    data = png(exif=exif)
    turned = np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1)
    ids, _ = ids_of(post(f"{url}/api/segment", picture=("a.png", data)))
    np.testing.assert_array_equal(ids, by_hand(run, turned))


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        ("a.png", b"\x89", 415, "a.png is none of PNG, JPEG"),
        ("a.png", b"", 415, "a.png is none of"),
        ("a.jpg", b"no picture but a text\n" * 99, 415, "a.jpg is none of"),
        ("a.png", png()[:-60], 422, "a.png cannot be read as a picture"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "a.eps is none of"),
        ("a.png", huge_png(20_000), 413, "a.png has more than 33554432 pixels"),
        ("a.png", huge_png(6_000), 413, "a.png has more than 33554432 pixels"),
        ("a.png", b"0" * 2**25, 413, "A request holds at most 33554432 bytes"),
        ("a.tiff", pages(2), 422, "a.tiff holds several pages or frames"),
        ("a.tiff", pages(30_000), 422, "a.tiff holds several pages or frames"),
        ("a.gif", animated(), 422, "a.gif holds several pages or frames"),
        ("a.jpg", scans(5000), 422, "a.jpg has more than 1000 scans"),
    ],
    ids="1_byte empty text cut eps 20000 6000 bytes pages many gif scans".split(),
)
def test_bad_pictures_are_refused(url, name, data, status, words):
    began = time.perf_counter()
    answer = post(f"{url}/api/segment", picture=(name, data))
    assert answer.status_code == status
    assert list(answer.json()) == ["error"] and answer.json()["error"].startswith(words)
    assert time.perf_counter() - began < 5  # 20,000 x 20,000 px take longer to decode.
    for good in (png(), scans(20)):
        ids_of(post(f"{url}/api/segment", picture=("a.png", good)))


def test_other_refusals_are_json_too(url):
    segment = f"{url}/api/segment"
    for answer, status, words in (
        (post(segment, image=("a.png", png())), 422, "picture: Field required"),
        (requests.post(segment, data={"picture": "a.png"}, timeout=9), 422, "picture: "),
        (requests.post(segment, json={"picture": 1}, timeout=9), 422, "picture: Field required"),
        (requests.get(segment, timeout=9), 405, "Method Not Allowed"),
        (post(f"{url}/api/verify", a=("a.png", png())), 404, "Not Found"),
        (requests.post(segment, data=iter([b"0"]), timeout=9), 413, "A request holds at most"),
    ):
        assert answer.status_code == status, answer.text
        assert list(answer.json()) == ["error"] and answer.json()["error"].startswith(words)


def test_a_host_by_another_name_is_refused(run):
    """A name of the net that is made to mean this machine: DNS rebinding."""
    with running(run, None, {"localhost", "127.0.0.1", "[::1]"}) as at:
        port = at.rpartition(":")[2]
        for host, status in (
            (f"127.0.0.1:{port}", 200),
            ("LocalHost", 200),
            (f"[::1]:{port}", 200),
            (f"evil.example:{port}", 403),
            (f"localhost.evil.example:{port}", 403),
            ("[::1", 403),
            ("", 403),
        ):
            answer = requests.get(f"{at}/api/run", headers={"Host": host}, timeout=9)
            assert answer.status_code == status, (host, answer.text)
        assert answer.json()["error"].startswith("This server answers to 127.0.0.1, [::1], local")


@pytest.mark.parametrize("hosts", [{"localhost", "127.0.0.1", "[::1]"}, None])
def test_a_page_of_the_net_is_refused(run, hosts):
    """A form or a script of any page may post here; its browser tells whose it is."""
    with running(run, None, hosts) as at:
        own = at.partition("//")[2]
        for origin, host, status in (
            (at, own, 200),
            ("http://LocalHost:1", "localhost:1", 200),
            ("http://[::1]", "[::1]:80", 200),  # By a proxy.
            ("https://evil.example", own, 403),
            ("http://127.0.0.1.evil.example", own, 403),
            ("http://evil.example:8000", "localhost", 403),
            ("null", own, 403),  # Of a file, or of a frame without rights.
            ("null", "localhost", 403),
        ):
            headers = {"Origin": origin, "Host": host}
            files = {"picture": ("a.png", png())}
            answer = requests.post(f"{at}/api/segment", files=files, headers=headers, timeout=60)
            assert answer.status_code == status, (origin, answer.text)
            if status == 403:
                name = origin.removesuffix(":8000").rpartition("/")[2]
                assert f" alone, not to {name}; see --host." in answer.json()["error"]


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", {"127.0.0.1", "localhost", "[::1]"}),
        ("Box.lan", {"127.0.0.1", "localhost", "[::1]", "box.lan"}),
        ("fe80::1", {"127.0.0.1", "localhost", "[::1]", "[fe80::1]"}),
        ("0.0.0.0", None),
        ("::", None),
    ],
)
def test_it_answers_to_its_own_names(host, names):
    assert served.names(host) == names


def test_api_is_described(url, encoder):
    told = requests.get(f"{url}/openapi.json", timeout=9).json()
    assert set(told["paths"]) == {"/api/run", "/api/segment"}
    answers = told["paths"]["/api/segment"]["post"]["responses"]
    for status, name in (
        ("200", "Segmented"),
        ("413", "Error"),
        ("422", "Error"),
        ("503", "Error"),
    ):
        schema = answers[status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}
    fields = told["components"]["schemas"]["Class"]["properties"]
    assert {k: v["type"] for k, v in fields.items()} == {
        "id": "integer", "name": "string", "colour": "string", "share": "number"
    }  # fmt: skip
    facts = requests.get(f"{url}/api/run", timeout=9).json()
    assert facts == {"name": "shapes_unet", "step": 1, "task": "segmentation", "gallery": 0}
    page = requests.get(url, timeout=9)
    assert page.headers["Content-Type"].startswith("text/html") and "://" not in page.text


@pytest.mark.parametrize("judge", [False, True])
def test_verify_as_the_command_line(tmp_path, judge):
    embedded.write(tmp_path / "run", judge=judge)
    run = load_run(tmp_path / "run")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(png((8, 8), "L"))
    with running(run) as url:
        answer = post(f"{url}/api/verify", a=files[0].read_bytes(), b=files[1].read_bytes())
        assert answer.json() == verify(run, *files)
        other = post(f"{url}/api/verify", a=files[0].read_bytes(), b=b"text")
        assert other.status_code == 415 and other.json()["error"].startswith("b is none of")
        assert requests.get(f"{url}/api/gallery/0", timeout=9).status_code == 404


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
    with running(run, tmp_path / "gallery.npz") as url:
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
             tmp_path / "endless.png"]  # fmt: skip
    with np.load(encoder[1]) as arrays:
        np.savez(tmp_path / "edited.npz", **{**arrays, "paths": list(map(str, names))})
    with running(encoder[0], tmp_path / "edited.npz") as url:
        shown = [requests.get(f"{url}/api/gallery/{n}", timeout=9) for n in range(len(names))]
    assert [answer.status_code for answer in shown] == [200, 200, 404, 404, 404, 404]
    for answer in shown[:2]:
        assert answer.content == picture.read_bytes()
        assert answer.headers["Content-Type"] == "image/png"
        # No page of another origin may embed it, nor this one show it for another gallery's.
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-cache"
    told = [answer.json()["error"] for answer in shown[2:]]
    assert told[0] == f"{names[2]} is none of PNG, JPEG, WEBP, BMP, GIF, TIFF inside."
    for name, words in zip(names[3:], told[1:], strict=True):
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
    with pytest.raises(ValueError, match=r"other\.npz was embedded by another model"):
        served.application(encoder[0], other)


def test_the_command_line(encoder, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    args = [str(encoder[0].workdir)]

    def refused(*more):
        assert main([*args, *map(str, more)]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        return printed.err

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "in use" in refused("--port", taken.getsockname()[1])
    assert "--port must be in 0..65535" in refused("--port", 99999)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    assert f"{other} is no gallery that can be read" in refused("--gallery", other)
    assert "no validation scores of step 2" in refused("--step", "latest")
    args[0] = str(run.workdir)
    assert "trained for segmentation" in refused("--gallery", encoder[1])
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "experiments.serve.server")
    monkeypatch.delattr("experiments.serve.server")
    assert 'pip install "vision-zoo[serve]"' in refused()


@pytest.mark.slow
def test_a_process_serves_this_machine_until_it_is_stopped(run):
    command = [sys.executable, "-m", "zoo", "serve", str(run.workdir), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("shapes_unet, step 1: http://127.0.0.1:"), line
            url = line.split()[3].rstrip(",")
            ids_of(post(f"{url}/api/segment", picture=("a.png", png())))
            other = requests.get(url, headers={"Host": "evil.example"}, timeout=9)
            assert other.status_code == 403
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0 and process.stderr.read() == ""
        finally:
            process.kill()
