"""A server of `experiments.serve`, the runs that it serves, and pictures to ask it about."""

import base64
import contextlib
import importlib.util
import io
import pathlib
import socket
import threading

import jax
import numpy as np
import requests
import uvicorn
from PIL import Image

from experiments.serve import server as served
from zoo.infer import load_run

TESTS = pathlib.Path(__file__).parents[1]
RNG = np.random.default_rng(0)


def load(name):
    spec = importlib.util.spec_from_file_location(name, TESTS / "infer" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


embedded, trained = load("embedded"), load("trained")


@contextlib.contextmanager
def running(*args):
    """Where an application of `experiments.serve` answers, until the block ends."""
    server = uvicorn.Server(uvicorn.Config(served.application(*args), log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def segmenting(folder):
    """A run of segmentation, written there."""
    trained.write(folder)
    return load_run(folder)


def png(size=(13, 18), mode="RGB", **options):
    file = io.BytesIO()
    shape = (*size, 3) if mode == "RGB" else size
    Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(file, "PNG", **options)
    return file.getvalue()


def post(url, **files):
    return requests.post(url, files=files, timeout=120)


def ids_of(answer):
    assert answer.status_code == 200, answer.text
    return read_mask_bytes(base64.b64decode(answer.json()["ids_png"]))


def read_mask_bytes(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        return np.asarray(image), image.getpalette()[:9]


def by_hand(run, image):
    """Class ids: the model's largest logit, of the picture as training would see it."""
    x = (image.astype(np.float32) / 255 - 0.5) / 0.25
    return np.asarray(jax.jit(run.model.apply)(run.variables, x[None])[0]).argmax(-1)
