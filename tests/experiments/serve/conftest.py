import numpy as np
import pytest

from serving import RNG, embedded, running, segmenting
from zoo.data.images import write_rgb
from zoo.infer import embed_files, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return segmenting(tmp_path_factory.mktemp("runs") / "shapes")


@pytest.fixture(scope="module")
def url(run):
    with running(run) as at:
        yield at


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
