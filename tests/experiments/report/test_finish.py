"""What a launch leaves when it ends, for each task."""

import struct

import cv2
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments import launch

TINY = {
    "quickstart": [
        "--set=model.width=2", "--set=model.depth=1", "--set=data.batch_size=8", "--set=steps=4",
        "--set=eval_every=4", "--set=log_every=1", "--set=data.options.train_scenes=8",
        "--set=data.options.validation_scenes=8", "--set=data.options.test_scenes=10",
    ],
    "triplet_digits": ["--set=steps=2", "--set=eval_every=2", "--set=log_every=1"],
}  # fmt: skip


def launched(name, workdir):
    return launch.main([name, "--workdir", str(workdir), *TINY[name]])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a segmentation, launched twice: the second time there is nothing left to train."""
    folder = tmp_path_factory.mktemp("report") / "run"
    assert launched("quickstart", folder) == 0
    return folder


def pictures(workdir):
    """Names, steps and sizes of TensorBoard's pictures, by the format's own protobuf."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                if value.HasField("image"):
                    yield value.tag, event.step, value.image.height, value.image.width
            data = data[16 + size :]


def test_a_segmentation_is_drawn(workdir):
    names = sorted(path.name for path in (workdir / "figures").iterdir())
    assert names == ["confusion.png", "curves.png", "examples.png"]
    # Six scenes of 64 pixels, each as image, truth and prediction.
    assert list(pictures(workdir)) == [("test", 4, 6 * 64, 3 * 64)]


@pytest.mark.slow
def test_an_embedding_is_drawn(tmp_path, capsys):
    assert launched("triplet_digits", tmp_path) == 0
    names = sorted(path.stem for path in (tmp_path / "figures").iterdir())
    assert names == ["curves", "distances", "hardest_pairs", "map", "neighbours", "roc"]
    height, width, _ = cv2.imread(str(tmp_path / "figures" / "map.png")).shape
    assert list(pictures(tmp_path)) == [("test", 2, height, width)]
    # Nearest neighbours of the test split's own pixels, in float64 by a full table of distances.
    from sklearn.datasets import load_digits

    from zoo.train import config

    _, experiment, _ = config.read_experiment(tmp_path)
    source = experiment.task.open(experiment.data, "test")
    x = np.stack([source[i]["image"].ravel() for i in range(len(source))]).astype(float)
    assert x.shape[1] == load_digits().data.shape[1]
    distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    recall = (source.labels[distance.argmin(1)] == source.labels).mean()
    assert f"Raw pixels: recall_at_1 {recall:.4f}, eer" in capsys.readouterr().out
