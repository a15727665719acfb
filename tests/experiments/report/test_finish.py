"""What a launch leaves when it ends, for each task."""

import functools
import importlib.util
import json
import pathlib
import re
import struct
import types

import cv2
import numpy as np
import pytest
from sklearn.metrics import jaccard_score, precision_score, recall_score
from tensorboardX.proto.event_pb2 import Event

import zoo
from experiments import launch
from experiments.report import finish
from tiny_launches import TINY
from zoo.train import config

spec = importlib.util.spec_from_file_location("pages", pathlib.Path(__file__).with_name("pages.py"))
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)


def launched(name, workdir, *more):
    return launch.main([name, "--workdir", str(workdir), *TINY[name], *more])


def split(workdir):
    """The pictures that a workdir was scored on."""
    _, experiment, _ = config.read_experiment(workdir)
    return experiment.task.open(experiment.data, experiment.split)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a segmentation."""
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


def test_the_report_of_a_segmentation(workdir):
    """Held against the files in the workdir and, by `zoo.predict`, against scikit-learn."""
    parsed = pages.read(workdir / "report.html")
    run, source = zoo.load_run(workdir), split(workdir)
    how = {"preprocess": run.preprocess}
    said = [zoo.predict(run.model, run.variables, x["image"], **how).ravel() for x in source]
    truth = [x["label"].ravel() for x in source]
    assert not any((x == run.info.ignore_label).any() for x in truth)
    pair = np.concatenate(truth), np.concatenate(said)
    options = {"labels": range(11), "average": None, "zero_division": 0}
    want = [f(*pair, **options) for f in (jaccard_score, precision_score, recall_score)]
    known = [np.isin(range(11), x) for x in (np.union1d(*pair), pair[1], pair[0])]
    # A batch of another size rounds otherwise, and a pixel in doubt may change its class.
    near = functools.partial(pytest.approx, abs=2e-3)
    rows = parsed.tables["Classes"][1:]
    assert [row[0] for row in rows] == list(run.info.class_names)
    for column, there, ratios in zip((1, 2, 3), known, want, strict=True):
        assert [row[column] != "–" for row in rows] == there.tolist()
        shown = [float(row[column]) for row in rows if row[column] != "–"]
        assert shown == near(ratios[there])
    counts = parsed.tables["Counts of confusion, in pixels"][1:]
    sums = [sum(int(n.replace(",", "")) for n in row[1:]) for row in counts]
    assert sums == np.bincount(pair[0], minlength=11).tolist()
    # Of ten pictures the four worst and the four best, by the mean over the classes of each.
    scores = {}
    for x, *ids in zip(source, truth, said, strict=True):
        options = {"labels": np.union1d(*ids), "average": "macro", "zero_division": 0}
        scores[x["name"]] = jaccard_score(*ids, **options)
    shown = [text.rsplit(": mean IoU ", 1) for text in parsed.text("figcaption")]
    ranked = sorted(scores.values())
    assert [float(x) for _, x in shown] == near([*ranked[:4], *ranked[:-5:-1]])
    assert all(float(x) == near(scores[name]) for name, x in shown)
    assert len({name for name, _ in shown}) == 8
    # The sentence and the table of scores are the record of the best step.
    records = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert records[-2]["split"] == "validation"  # On which the best is chosen.
    last = records[-1]
    assert last["split"] == "test" and f"{last['mean_iou']:.4f}" in parsed.text("p")[0]
    assert dict(parsed.tables["Scores"][1:])["mean_iou"] == f"{last['mean_iou']:.4f}"
    sizes = [row[2] for row in parsed.tables["Data: digit_scenes"][1:]]
    assert sizes == ["8", "8", "10"]
    assert (workdir / "report.html").stat().st_size < 2**21


def test_a_report_that_fails_is_one_line(tmp_path):
    """Nothing of what it needs is there."""
    told = []
    finish.attempt(None, {}, {}, {}, tmp_path, types.SimpleNamespace(say=told.append))
    [line] = told
    assert re.fullmatch(r"Warning: the report .*FileNotFoundError.*metrics\.jsonl.*kept.*", line)


@pytest.mark.slow
def test_a_relaunch_writes_the_report_anew_or_says_why_not(workdir, capsys):
    page, kept = workdir / "report.html", (workdir / "metrics.jsonl").read_bytes()
    old = page.read_bytes()
    page.unlink()
    page.mkdir()
    capsys.readouterr()
    assert launched("quickstart", workdir) == 0
    out = capsys.readouterr().out
    assert "Warning: the report could not be written (IsADirectoryError" in out
    assert "on test, at the best step, 4." in out and "python -m zoo predict" in out
    with pytest.raises(IsADirectoryError):
        launched("quickstart", workdir, "--traceback")
    page.rmdir()
    assert launched("quickstart", workdir) == 0
    assert f"The report is {page}." in capsys.readouterr().out
    assert (workdir / "metrics.jsonl").read_bytes() == kept
    same = [pages.read(page).tables["Classes"], pages.read(page).text("figcaption")]
    page.write_bytes(old)
    assert same == [pages.read(page).tables["Classes"], pages.read(page).text("figcaption")]


@pytest.mark.slow
def test_an_embedding_is_drawn(tmp_path, capsys):
    assert launched("triplet_digits", tmp_path) == 0
    names = sorted(path.stem for path in (tmp_path / "figures").iterdir())
    assert names == ["curves", "distances", "hardest_pairs", "map", "neighbours", "roc"]
    height, width, _ = cv2.imread(str(tmp_path / "figures" / "map.png")).shape
    assert list(pictures(tmp_path)) == [("test", 2, height, width)]
    # Nearest neighbours of the test split's own pixels, in float64 by a full table of distances.
    source = split(tmp_path)
    x = np.stack([source[i]["image"].ravel() for i in range(len(source))]).astype(float)
    distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    recall = (source.labels[distance.argmin(1)] == source.labels).mean()
    words = f"Raw pixels: recall_at_1 {recall:.4f}, eer"
    assert words in capsys.readouterr().out
    parsed = pages.read(tmp_path / "report.html")
    assert any(words in text for text in parsed.text("p"))
    images = [a for tag, a in parsed.elements if tag == "img"]
    assert len(images) == 6 and parsed.text("h2")[:2] == ["Curves", "Distances"]
    [scores] = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()[-1:]]
    said = dict(parsed.tables["Scores"][1:])
    assert said["eer"] == f"{scores['eer']:.4f}" and said["queries"] == str(len(source))
