"""`--profile`: which steps are in the trace, and what is said where there are too few."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from experiments import profile


def steps(folder, count, *, asked=True):
    """`count` steps of a launch, each its own computation."""
    double = jax.jit(lambda x: 2 * x)
    with profile.Trace(folder, asked=asked) as trace:
        state = jnp.ones(4)
        for n in range(1, count + 1):
            state = double(state)
            trace(n, state)


def test_steps_10_to_15_are_traced(tmp_path, capsys):
    folder = tmp_path / "a run"
    steps(folder, 20)
    assert f"tensorboard --logdir '{folder}'" in capsys.readouterr().out  # To be pasted.
    (run,) = (folder / "plugins" / "profile").iterdir()
    assert list(run.glob("*.xplane.pb"))
    (file,) = run.glob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    numbers = [int(e["args"]["step_num"]) for e in events if e.get("name") == "train"]
    assert sorted(numbers) == [10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize("count", [3, 12])
def test_too_few_steps_are_told(tmp_path, capsys, count):
    steps(tmp_path, count)
    assert "No whole trace: --profile needs 15 steps" in capsys.readouterr().err


def test_nothing_is_written_unasked(tmp_path):
    steps(tmp_path, 20, asked=False)
    assert not list(tmp_path.iterdir())
