import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_both_libraries_find_the_same_loss(peer):
    peer("pytorch_metric_learning")
    command = [sys.executable, "-m", "experiments.bench", "--classes", "12", "--repeats", "1"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # Of the peer.
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    values = dict(re.findall(r"^(\w+) .* value ([\d.]+)$", done.stdout, re.MULTILINE))
    assert set(values) == {"batch_all_triplet", "batch_hard_triplet", "pml"}
    assert float(values["batch_all_triplet"]) == pytest.approx(float(values["pml"]), rel=1e-5)
    assert "B = 96, K = 8" in done.stdout
