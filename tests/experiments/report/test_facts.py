"""What a report tells of a run beside its scores, counted by hand."""

import json
import types

import numpy as np
import pytest

from experiments.report import facts

LABELS = np.random.default_rng(0).integers(0, 3, (100, 4, 5)).astype(np.uint8)


def examples(changed=None, **change):
    """A hundred, one of them changed."""
    found = [{"image": 9 * x[..., None], "label": x, "name": f"n{i}"} for i, x in enumerate(LABELS)]
    if changed is not None:
        found[changed] = {**found[changed], **change}
    return found


def test_a_hash_tells_data_apart():
    alike = facts.digest(examples())
    assert len(alike) == 16 and facts.digest(examples()) == alike
    # The ends are always among the 64 of 100 that are looked at; every second one at least is.
    for place in (0, 99):
        changes = {"label": LABELS[place].T}, {"name": "other"}, {"image": np.zeros((4, 5, 1))}
        assert len({alike, *(facts.digest(examples(place, **c)) for c in changes)}) == 4
    assert facts.digest(examples()[:99]) != alike
    seen = sum(facts.digest(examples(i, name="other")) != alike for i in range(100))
    assert seen == facts.SAMPLE
    # Pictures of one class each have a number for a label; a split of few is seen whole.
    few = [{"image": LABELS[0], "label": np.int32(i), "name": "x"} for i in (0, 1, 2)]
    assert facts.digest(few) != facts.digest(few[::-1])


def test_training_time_is_of_the_steps_that_were_clocked():
    records = [
        {"step": 10, "split": "train", "loss": 1.0},  # Compiled: no speed yet.
        {"step": 10, "split": "validation", "loss": 1.0},
        {"step": 20, "split": "train", "images_per_second": 40.0},
        {"step": 25, "split": "train", "images_per_second": 20.0},
    ]
    assert facts.training(records, batch_size=8) == (10 * 8 / 40 + 5 * 8 / 20, 15)
    assert facts.training([], batch_size=8) == (0, 0)


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (
            ["/home/me/zoo/experiments/launch.py", "quickstart", "--set=data.path=my pictures"],
            "python -m experiments.launch quickstart '--set=data.path=my pictures'",
        ),
        (["mine.py", "$HOME"], "python mine.py '$HOME'"),
    ],
)
def test_the_command_can_be_typed_again(tmp_path, argv, command):
    devices = {"platform": "cpu", "kind": "cpu", "count": 8, "processes": 2}
    values = {"command": argv, "seed": 3, "git_commit": None, "devices": devices}
    values |= {"versions": {"jax": "0.10.2", "vision-zoo": None}}
    (tmp_path / "environment.json").write_text(json.dumps(values))
    got, table = facts.environment(tmp_path)
    assert got == command
    assert table.rows == [["seed", "3"], ["devices", "8 of cpu, 2 process(es)"], ["jax", "0.10.2"]]


def test_memory_is_as_the_system_says():
    device = types.SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 3 * 2**20})
    config = types.SimpleNamespace(data=types.SimpleNamespace(batch_size=8))
    layout = types.SimpleNamespace(devices=[device])
    table = facts.cost(types.SimpleNamespace(layout=layout, experiment=config), [])
    rows = dict(table.rows)
    assert rows["peak device memory"] == "3 MiB of the first device"
    assert rows["training"] == "too few steps to tell"
    with open("/proc/self/status", encoding="utf-8") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    told = float(rows["peak memory"].split()[0].replace(",", ""))
    # The system's peak may be that of the program which started this one.
    assert 0.95 * peak / 1024 < told < 100 * peak / 1024
