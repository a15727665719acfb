"""The server as a script or a browser meets it: over a socket, by another library's client."""

import base64
import io
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

from experiments.serve import main
from experiments.serve import server as served
from serving import by_hand, embedded, ids_of, png, post, running
from zoo.infer import load_run, predict, verify

ROOT = pathlib.Path(__file__).parents[3]


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
    laid = Image.open(io.BytesIO(base64.b64decode(answer.json()["ids_png"]))).convert("RGBA")
    np.testing.assert_array_equal(np.asarray(laid)[..., 3], 255 * (want > 0))  # Black is bare.
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
