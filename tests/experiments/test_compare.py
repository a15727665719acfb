"""Workdirs side by side."""

import importlib.util
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import compare, launch
from zoo.data.info import Info
from zoo.train.segmentation import BoundSegmentation

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
    mean, half = sum(found) / 2, abs(found[0] - found[1]) / 2
    # U-Net of width 2, depth 1, with batch norm: kernels, scales and shifts, up-convolution, head.
    kernels = 9 * (3 * 2 + 2 * 2 + 2 * 4 + 4 * 4 + 4 * 2 + 2 * 2)
    parameters = kernels + 2 * (2 + 2 + 4 + 4 + 2 + 2) + (4 * 4 * 2 + 2) + (2 * 11 + 11)
    assert cells[:4] == ["quickstart", f"{mean:.3f} ± {half:.3f}", "0, 1", f"{parameters:,}"]
    assert (tmp_path / "out" / "compare.md").read_text() in shown
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["scores"]["iou"] for row in rows] == [s["iou"] for s in scores]
    assert (tmp_path / "out" / "compare.png").stat().st_size > 10_000
    parsed = pages.read(tmp_path / "out" / "compare.html")
    assert parsed.tables["Scores and costs"][1][:4] == cells[:4]
    assert parsed.tables["Classes"][0][1:] == rows[0]["classes"]
    assert str(tmp_path / "seed1") in parsed.text("code")[0]

    other = str(tmp_path / "other")
    command = ["quickstart", "--workdir", other, *SMALL, "--set=split=validation"]
    assert launch.main(command) == 0
    assert compare.main([workdirs[0], other, f"--out={tmp_path / 'no'}"]) == 2
    assert "digit_scenes test) and" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def scored(label, stride):
    source = {"test": [{"label": np.asarray(label, np.uint8)}]}
    run = SimpleNamespace(
        info=INFO,
        task=BoundSegmentation(INFO),
        source=source.get,
        experiment=SimpleNamespace(split="test"),
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


def test_grouping_and_spread():
    assert compare.spread([0.5], "{:.2f}") == "0.50"
    assert compare.spread([0.4, 0.5, 0.7], "{:.2f}") == "0.53 ± 0.15"


def test_bad_input_is_one_line(tmp_path, capsys):
    assert compare.main([str(tmp_path / "none")]) == 2
    assert "is no workdir" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare.main([str(tmp_path), "--rounds=0"])
