"""Workdirs side by side."""

import importlib.util
import json
import math
import pathlib
import re
import statistics
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import compare, launch
from experiments.report import comparison
from zoo.data.config import Data
from zoo.data.info import Info
from zoo.models import FCN16s
from zoo.train import config
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import BoundSegmentation, Segmentation

spec = importlib.util.spec_from_file_location(
    "pages", pathlib.Path(__file__).parent / "report" / "pages.py"
)
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)

SMALL = [
    "--set=model.width=2", "--set=model.depth=1", "--set=data.batch_size=8", "--set=steps=3",
    "--set=eval_every=3", "--set=log_every=1", "--set=data.options.train_scenes=8",
    "--set=data.options.validation_scenes=8", "--set=data.options.test_scenes=8",
]  # fmt: skip
INFO = Info("shapes", 3, ("a", "b", "c"), ((0, 0, 0),) * 3, 255, 1, (0.5,), (0.25,))


@pytest.mark.slow
def test_two_seeds_share_a_row(tmp_path, capsys):
    workdirs = [str(tmp_path / f"seed{seed}") for seed in (0, 1)]
    scores = []
    for seed, workdir in enumerate(workdirs):
        command = ["quickstart", "--workdir", workdir, *SMALL, f"--set=seed={seed}"]
        assert launch.main(command) == 0
        capsys.readouterr()
        assert launch.main(["quickstart", "evaluate", "--workdir", workdir, "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert compare.main([*workdirs, "--rounds=1", f"--out={tmp_path / 'out'}"]) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.startswith("| quickstart | 0."))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    found = [s["mean_iou"] for s in scores]
    mean, spread = sum(found) / 2, abs(found[0] - found[1]) / math.sqrt(2)  # n - 1 = 1.
    # U-Net of width 2, depth 1, with batch norm: kernels, scales and shifts, up-convolution, head.
    kernels = 9 * (3 * 2 + 2 * 2 + 2 * 4 + 4 * 4 + 4 * 2 + 2 * 2)
    parameters = kernels + 2 * (2 + 2 + 4 + 4 + 2 + 2) + (4 * 4 * 2 + 2) + (2 * 11 + 11)
    assert cells[:3] == ["quickstart", f"{mean:.3f} ± {spread:.3f}", "0, 1"]
    assert cells[3:5] == ["8 x 64x64", f"{parameters:,}"]
    assert (tmp_path / "out" / "compare.md").read_text() in shown
    assert "sample standard deviation (n - 1)" in shown
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["scores"]["iou"] for row in rows] == [s["iou"] for s in scores]
    assert (tmp_path / "out" / "compare.png").stat().st_size > 10_000
    options = ["--split=validation", "--rounds=1", f"--out={tmp_path / 'v'}"]
    assert compare.main([workdirs[0], *options]) == 0
    (row,) = json.loads((tmp_path / "v" / "compare.json").read_text())
    told = map(json.loads, (tmp_path / "seed0" / "metrics.jsonl").read_text().splitlines())
    speed = statistics.median(r["images_per_second"] for r in told if "images_per_second" in r)
    assert row["data"] == "digit_scenes validation"
    assert row["minutes"] == pytest.approx(row["steps"] * row["batch"] / speed / 60)
    parsed = pages.read(tmp_path / "out" / "compare.html")
    assert parsed.tables["Scores and costs"][1][:5] == cells[:5]
    assert parsed.tables["Classes"][0][1:] == rows[0]["classes"]
    assert str(tmp_path / "seed1") in parsed.text("code")[0]
    assert any("sample standard deviation" in words for words in parsed.text("p"))
    used = pages.read(tmp_path / "seed0" / "report.html").tables["Data: digit_scenes"]
    assert parsed.tables["Data"] == used
    environment = dict(parsed.tables["Environment"])
    assert environment["jax"] == jax.__version__ and "seed" not in environment

    other = str(tmp_path / "other")
    command = ["quickstart", "--workdir", other, *SMALL, "--set=split=validation"]
    assert launch.main(command) == 0
    assert compare.main([workdirs[0], other, f"--out={tmp_path / 'no'}"]) == 2
    assert "digit_scenes test) and" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def scored(label, stride, **data):
    source = {"test": [{"label": np.asarray(label, np.uint8)}]}
    run = SimpleNamespace(
        info=INFO,
        task=BoundSegmentation(INFO),
        source=source.get,
        experiment=SimpleNamespace(split="test", data=Data("shapes", **data)),
    )
    return compare.oracle(run, stride)


def test_oracle_by_hand():
    quarters = np.kron([[0, 1], [2, 0]], np.ones((4, 4), int))
    assert scored(quarters, 1) == 1
    # Class 1 is one pixel of a square of four, of which it never has the largest share: IoU 0, and
    # 0 has 15 of 16 pixels right.
    speck = np.zeros((4, 4), int)
    speck[1, 2] = 1
    assert scored(speck, 2) == pytest.approx((15 / 16 + 0) / 2)
    # Void counts for nothing, also what is filled up to a multiple of the stride.
    speck[1, 2] = 255
    assert scored(speck[:3, :3], 2) == 1


def test_oracle_of_resized_pictures_by_hand():
    """The network has its stride at `data.size`; what it tells is scored at the label's size."""
    # At 2x4 px are columns 1, 4, 7, 10: 0, 0, 1, 1. Up-sampled and brought back, the border is in
    # the middle: of 12 columns the sixth is wrong.
    label = np.repeat([[0] * 5 + [1] * 7], 4, 0)
    assert scored(label, 2, size=(2, 4)) == pytest.approx((5 / 6 + 6 / 7) / 2)
    assert scored(label, 2, size=(2, 4), score_at="input") == 1
    # At 1x3 px: 0, 0, 1. Squares reach beyond: the shares of 0 are 1/2 and 0, of 1 they are 0 and
    # 1/4, since what is filled up is void. Up-sampled, 0 has 8, 6, 2 sixteenths and 1 has 0, 1, 3;
    # in the fifth of six columns, between the last two, 0 has 3 and 1 has 2.5.
    label = [[0, 0, 0, 0, 1, 1]] * 2
    assert scored(label, 2, size=(1, 3)) == pytest.approx((4 / 5 + 1 / 2) / 2)
    assert scored(label, 2, size=(1, 3), score_at="input") == 1


def test_seeds_that_start_from_runs_of_their_own_share_a_row(tmp_path):
    def run(seed, init_from=None, path="a", steps=3):
        workdir = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        data = Data("shapes", path=path)
        model, rule = FCN16s(num_classes=3, width=2), Optimizer("sgd", 0.1)
        fields = {"steps": steps, "seed": seed, "init_from": init_from}
        config.write_experiment(
            workdir, "x", Experiment(Segmentation(), model, data, rule, **fields), INFO
        )
        return {"name": "x", "workdir": str(workdir), "seed": seed}

    def grouped(*runs):
        return [[runs.index(row) for row in each] for each in compare.group(list(runs))]

    assert grouped(run(0, "runs/0"), run(1, "runs/1"), run(2, "runs/2", "b")) == [[0, 1, 2]]
    # To start from nothing is another experiment, and so is any other field.
    assert grouped(run(0, "runs/0"), run(1), run(2), run(3, steps=4)) == [[0], [1, 2], [3]]
    # Where a seed is there twice, what it starts from is what differs.
    twice = [run(seed, start) for start in ("runs/a", "runs/b") for seed in (0, 1)]
    assert grouped(*twice) == [[0, 1], [2, 3]]
    # One seed on two layouts, say, is no two seeds.
    assert grouped(run(0), run(0), run(1)) == [[0], [1], [2]]


def test_spread_is_that_of_a_sample():
    values = [0.4, 0.5, 0.7]
    assert compare.spread(values, "{:.2f}") == f"0.53 ± {statistics.stdev(values):.2f}"
    assert compare.spread([0.5], "{:.2f}") == "0.50"
    for bad in (None, math.nan):
        assert compare.spread([0.5, bad], "{:.2f}") == "nan"


def rows(scores, classes):
    """A group: the runs of one model, a score each."""
    iou = {"iou": np.full(classes, 0.5).tolist()} if classes else {}
    names = [f"class {n}" for n in range(classes)]
    costs = {"parameters": 1200, "gflops": 0.25, "memory_mib": 40.0, "step_seconds": 0.125}
    return [
        {"name": f"model of {len(scores)}", "headline": "mean_iou", "classes": names, "seed": seed,
         "scores": {"mean_iou": score, **iou}, **costs}
        for seed, score in enumerate(scores)
    ]  # fmt: skip


@pytest.mark.parametrize("classes", [0, 2, 11])
@pytest.mark.parametrize("scores", [[[0.4, 0.5, 0.7], [0.25]], [[math.nan]]])
def test_score_and_costs_are_bars(scores, classes, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(comparison.figures, "save", lambda figure, path: drawn.append(figure))
    comparison.draw([rows(each, classes) for each in scores], tmp_path / "compare.png")
    (figure,) = drawn
    figure.canvas.draw()
    panels = {axes.get_title(): axes for axes in figure.get_axes()}
    wanted = {"parameters": 1200, "GFLOP per input": 0.25, "MiB per step": 40, "s per step": 0.125}
    for title, value in wanted.items():
        widths = [bar.get_width() for bar in panels.pop(title).patches]
        assert widths == [value] * len(scores), title
    score = panels.pop("mean IoU")
    means = [statistics.fmean(each) for each in scores]
    np.testing.assert_allclose([bar.get_width() for bar in score.patches], means)
    assert [text.get_text() for text in score.texts] == [f"{mean:.3f}" for mean in means]
    if len(scores) > 1:  # From a deviation below to one above; of one seed there is none.
        (whiskers,) = score.collections
        ends = np.array(whiskers.get_segments()[0])[:, 0]
        np.testing.assert_allclose(np.ptp(ends), 2 * statistics.stdev(scores[0]))
    assert ("IoU of each class, per cent" in panels) == bool(classes)
    assert "mean IoU, every seed a point" in panels


def test_what_costs_and_scores_are_of_is_told():
    small, large = rows([0.5, 0.25], 0), rows([0.75], 0)
    own = {"data": "shapes test", "scored_at": "their own size", "steps": 3, "minutes": 1.5}
    for row in small:
        row |= {**own, "batch": 16, "input": "64x64"}
    large[0] |= {**own, "batch": 4, "input": "224x96"}
    (table,), note = compare.tables([small, large])
    place = table.head.index("trained on")
    assert [line[place] for line in table.rows] == ["16 x 64x64", "4 x 224x96"]
    assert "GFLOP per input" in table.head and "batch" not in note.split(".")[0]
    assert "Scored on shapes test, pictures at their own size." in note


def test_rows_are_of_the_first_run_s_headline():
    costs = {"batch": 8, "input": "8x8", "steps": 3, "minutes": 1.5, "data": "digits test"}
    first = rows([0.5], 0)[0] | costs | {"scored_at": "8x8 px", "workdir": "a"}
    own = {"headline": "recall_at_1", "scores": {"recall_at_1": 0.875, "roc_auc": 0.75}}
    other = {"headline": "roc_auc", "scores": {"recall_at_1": 0.625, "roc_auc": 0.9375}}
    triplets, pairs = first | own, first | other | {"workdir": "b"}
    (table,), _ = compare.tables([[triplets], [pairs]])
    assert [line[1] for line in [table.head, *table.rows]] == ["recall_at_1", "0.875", "0.625"]
    compare.check_headline([triplets, pairs])
    with pytest.raises(ValueError, match=r"^b has no mean_iou, the headline of a: compare runs of"):
        compare.check_headline([first, pairs])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data", "shapes train", r"a \(shapes test\) and b \(shapes train\) .* set --split"),
        ("scored_at", "64x64 px", r"\(their own size\) and b \(64x64 px\) .*data.score_at"),
        ("hash", "01", r"a \(00\) and b \(01\) .*data.path"),
    ],
)
def test_runs_that_are_scored_otherwise_are_refused(key, value, words):
    row = {"data": "shapes test", "scored_at": "their own size", "hash": "00", "workdir": "a"}
    compare.check_alike([row, row | {"workdir": "b"}])
    with pytest.raises(ValueError, match=words):
        compare.check_alike([row, row, row | {"workdir": "b", key: value}])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "their own size"),
        ({"size": (48, 64)}, "their own size"),
        ({"score_at": "input"}, "their own size"),
        ({"size": (48, 64), "score_at": "input"}, "48x64 px"),
    ],
)
def test_where_pictures_are_scored(fields, told):
    data = Data("shapes", **fields)
    assert compare.scored_at(data, labels=True) == told
    # An encoder sees no other size.
    seen = "{}x{} px".format(*data.size) if data.size else "their own size"
    assert compare.scored_at(data, labels=False) == seen


def test_bad_input_is_one_line(tmp_path, capsys):
    assert compare.main([str(tmp_path / "none")]) == 2
    assert "is no workdir" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare.main([str(tmp_path), "--rounds=0"])


def test_what_cannot_be_compared_is_told_at_once(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, words in (
        (
            ["runs/a", "runs/b", f"--out={tmp_path / 'file'}"],
            "file is a file; choose another --out",
        ),
        (["runs/a", "runs/../runs/a"], "runs/a is given twice"),
        # A shell leaves the ~ as it is.
        (["runs/a", "--out=~/file"], f"{tmp_path}/file is a file; choose another --out"),
    ):
        assert compare.main(given) == 2
        assert re.search(words, capsys.readouterr().err)
