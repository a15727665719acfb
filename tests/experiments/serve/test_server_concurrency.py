"""The server when many ask at once, or leave before they are answered."""

import concurrent.futures
import gc
import io
import socket
import threading
import time

import numpy as np
import requests
from PIL import Image

from experiments.serve import server as served
from serving import by_hand, ids_of, png, post, running
from zoo.infer import predict


def test_500_requests_at_once(run, monkeypatch):
    """Each is answered or refused; those that came together are answered like single ones."""
    free = threading.Event()  # Until the queue was full, nothing is answered.

    def held(*given, **options):
        if not free.wait(60):  # Nobody was refused, which is told below.
            free.set()
        return predict(*given, **options)

    data = [png() for _ in range(5)]
    want = [by_hand(run, np.asarray(Image.open(io.BytesIO(d)))) for d in data]
    with running(run) as url, concurrent.futures.ThreadPoolExecutor(500) as pool:
        ids_of(post(f"{url}/api/segment", picture=("a.png", data[0])))
        monkeypatch.setattr(served, "predict", held)
        together = threading.Barrier(500)

        def one(n):
            together.wait()
            answer = post(f"{url}/api/segment", picture=("a.png", data[n % 5]))
            if answer.status_code == 503:
                free.set()
            return answer

        answers = list(pool.map(one, range(500)))
        assert {a.status_code for a in answers} == {200, 503}
        for n, answer in enumerate(answers):
            if answer.status_code == 200:
                np.testing.assert_array_equal(ids_of(answer)[0], want[n % 5])
            else:
                assert answer.json() == {"error": "64 requests wait; try again."}
                assert answer.headers["Retry-After"] == "1"
        assert sum(a.status_code == 200 for a in answers) >= served.WAITING
        ids_of(post(f"{url}/api/segment", picture=("a.png", data[0])))


def test_pictures_of_one_size_go_together(run, monkeypatch):
    seen, whole = [], threading.Event()

    def watched(model, variables, images, **options):
        seen.append((threading.current_thread().name, images.shape))
        if len(seen) == 1:
            whole.wait(60)  # Until the others wait.
        return predict(model, variables, images, **options)

    monkeypatch.setattr(served, "predict", watched)
    data = [png() for _ in range(4)] + [png((18, 13))]
    with running(run) as url, concurrent.futures.ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(post, f"{url}/api/segment", picture=("a.png", data[0]))]
        while not seen:
            time.sleep(0.01)
        asked += [pool.submit(post, f"{url}/api/segment", picture=("a.png", d)) for d in data[:4]]
        time.sleep(1)
        asked.append(pool.submit(post, f"{url}/api/segment", picture=("a.png", data[4])))
        asked.append(pool.submit(post, f"{url}/api/segment", picture=("a.png", b"bad")))
        time.sleep(0.5)
        whole.set()
        answers = [one.result() for one in asked]
    assert [shape for _, shape in seen] == [(1, 13, 18, 3), (4, 13, 18, 3), (1, 18, 13, 3)]
    assert len({name for name, _ in seen}) == 1
    for answer, d in zip(answers[:-1], [data[0], *data], strict=True):
        image = np.asarray(Image.open(io.BytesIO(d)))
        np.testing.assert_array_equal(ids_of(answer)[0], by_hand(run, image))
    assert answers[-1].status_code == 415


def test_a_closed_connection_harms_nobody(url):
    host, port = url.removeprefix("http://").split(":")
    body = requests.Request("POST", url, files={"picture": ("a.png", png())}).prepare()
    head = f"POST /api/segment HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body.body)}\r\n"
    head = f"{head}Content-Type: {body.headers['Content-Type']}\r\n\r\n".encode()
    for n in range(40):  # More than wait: half of them before the picture is whole.
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + body.body[: -50 if n % 2 else None])
    deadline = time.monotonic() + 60
    while post(f"{url}/api/segment", picture=("a.png", png())).status_code != 200:
        assert time.monotonic() < deadline
    gc.collect()  # Python 3.13 tells of files that nobody closed.
