"""Grids of runs."""

import json
import shlex
import signal
import statistics

import pytest

from experiments import launch, lock, sweep
from zoo.train import loop

SMALL = [
    "--set=model.width=2", "--set=model.depth=1", "--set=data.batch_size=8", "--set=steps=2",
    "--set=eval_every=2", "--set=log_every=1", "--set=data.options.train_scenes=8",
    "--set=data.options.validation_scenes=8", "--set=data.options.test_scenes=8",
]  # fmt: skip
GRID = ["--sweep=optimizer.learning_rate=0.01,0.001", "--sweep=seed=0..2"]


def test_grids_by_hand():
    assert sweep.grid(["a.b=1,2", "seed=3..4"]) == [
        ("a.b=1", "seed=3"), ("a.b=1", "seed=4"), ("a.b=2", "seed=3"), ("a.b=2", "seed=4"),
    ]  # fmt: skip
    assert sweep.grid(["size=(8, 8),(16,8),none"]) == [
        ("size=(8, 8)",), ("size=(16,8)",), ("size=none",),
    ]  # fmt: skip
    for bad in ("seed", "=1", "seed=", "seed=1,,2", "seed=4..3"):
        with pytest.raises(ValueError, match="takes FIELD=A,B,C"):
            sweep.grid([bad])
    for bad in (["seed=1,1"], ["seed=1", "seed=2"]):
        with pytest.raises(ValueError, match="twice"):
            sweep.grid(bad)


@pytest.fixture
def trained(monkeypatch):
    """Training in name only: writes experiment.json, scores by rate and seed; lists what it did."""
    calls, plan = [], {}

    def train(name, experiment, workdir, layout, **_):
        from zoo.data.info import Info
        from zoo.train import config

        calls.append(workdir.name)
        config.write_experiment(workdir, name, experiment, Info("x", 2, ("a", "b")))
        if workdir.name in plan:
            raise plan.pop(workdir.name)
        score = experiment.optimizer.learning_rate * 10 + experiment.seed**2 / 100
        return {"step": 2, "split": "test", "mean_iou": score, "loss": float("nan"), "iou": [1.0]}

    monkeypatch.setattr(loop, "train", train)
    return calls, plan


def test_seeds_are_grouped_and_what_is_finished_is_left_alone(tmp_path, trained, capsys):
    calls, plan = trained
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL, *GRID]
    names = [f"optimizer.learning_rate={r},seed={s}" for r in ("0.01", "0.001") for s in range(3)]
    plan[names[1]] = loop.Diverged("Step 1 gave loss nan.")
    plan[names[4]] = loop.Interrupted(signal.SIGTERM, 1)
    assert launch.main(command) == 128 + signal.SIGTERM
    assert calls == names[:5]
    assert "Step 1 gave loss nan" in capsys.readouterr().err
    assert json.loads((tmp_path / "sweep.json").read_text()).keys() == {*names[:1], *names[2:4]}
    assert launch.main(command) == 0  # What failed, what was stopped and what is left.
    assert calls[5:] == [names[1], names[4], names[5]]
    assert launch.main(command) == 0 and len(calls) == 8
    shown = capsys.readouterr().out
    assert shown.count(": finished\n") == 3 + 6
    for rate in (0.01, 0.001):
        scores = [rate * 10 + seed**2 / 100 for seed in range(3)]
        spread = f"{statistics.fmean(scores):.4f} ± {statistics.stdev(scores):.4f}"
        assert f"| optimizer.learning_rate={rate} | 3 | {spread} | nan |" in shown
    assert (tmp_path / "sweep.md").read_text() in shown
    assert "Mean ± sample standard deviation (n - 1) over the n seeds" in shown
    assert launch.main([*command, "--set=steps=3"]) == 0  # Longer than they were: they go on.
    assert calls[8:] == names


@pytest.mark.parametrize("error", [ValueError, RuntimeError, loop.Diverged])
def test_of_many_processes_one_alone_does_not_go_on(error, tmp_path, trained, monkeypatch, capsys):
    """The others would still be in that run; a loss that is no number they all meet."""
    calls, plan = trained
    monkeypatch.setattr(sweep.jax, "process_count", lambda: 2)
    plan["seed=0"] = error("of process 0 alone")
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL, "--sweep=seed=0..1"]
    if error is RuntimeError:
        with pytest.raises(RuntimeError, match="alone"):  # Its launcher ends with a traceback.
            launch.main(command)
    else:
        assert launch.main(command) == (1 if error is loop.Diverged else 2)
        assert "error: of process 0 alone" in capsys.readouterr().err
    assert calls == (["seed=0", "seed=1"] if error is loop.Diverged else ["seed=0"])


def test_process_0_alone_writes_the_tables(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr(sweep.jax, "process_index", lambda: 1)
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL, "--sweep=seed=0..1"]
    assert launch.main(command) == 0 and trained[0] == ["seed=0", "seed=1"]
    assert not (tmp_path / "sweep.json").exists() and not (tmp_path / "sweep.md").exists()
    assert "mean_iou" not in capsys.readouterr().out


def test_what_another_launch_has_and_ends_is_no_failure(tmp_path, trained, monkeypatch, capsys):
    train = loop.train

    def locked(name, experiment, workdir, layout, **_):
        """Of seed 0, whose lock the other launch holds, and which that one ends meanwhile."""
        scores = train(name, experiment, workdir, layout)
        if workdir.name == "seed=1":
            return scores
        other = {"seed=0": {"steps": 2, "scores": scores | {"loss": None, "iou": None}}}
        (tmp_path / "sweep.json").write_text(json.dumps(other))
        raise ValueError("it is in use")

    monkeypatch.setattr(loop, "train", locked)
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL, "--sweep=seed=0..1"]
    assert launch.main(command) == 0 and trained[0] == ["seed=0", "seed=1"]
    assert "failed" not in capsys.readouterr().err
    assert "| 2 |" in (tmp_path / "sweep.md").read_text()


def test_two_launches_of_a_sweep_keep_one_another_s_scores(tmp_path, trained, monkeypatch):
    train = loop.train

    def meanwhile(name, experiment, workdir, layout, **_):
        """As another launch, of a longer grid, ends while this one trains."""
        scores = train(name, experiment, workdir, layout)
        if workdir.name == "seed=0":
            other = {"seed=7": {"steps": 2, "scores": scores | {"loss": None}}}
            (tmp_path / "sweep.json").write_text(json.dumps(other))
        return scores

    monkeypatch.setattr(loop, "train", meanwhile)
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL, "--sweep=seed=0..1"]
    assert launch.main(command) == 0
    kept = json.loads((tmp_path / "sweep.json").read_text())
    assert kept.keys() == {"seed=0", "seed=1", "seed=7"}


def test_scores_that_some_rows_lack_are_dashes(tmp_path, trained, monkeypatch, capsys):
    train = loop.train

    def judged(name, experiment, *where, **_):
        scores = train(name, experiment, *where)
        return scores | ({} if experiment.optimizer.ema else {"boundary_f1": 0.5})

    monkeypatch.setattr(loop, "train", judged)
    for values in ("0.9,0.0", "0.0,0.9"):
        root = tmp_path / f"of {values}"
        command = ["quickstart", "--workdir", str(root), *SMALL, f"--sweep=optimizer.ema={values}"]
        assert launch.main(command) == 0
        shown = capsys.readouterr().out
        lines = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in shown.splitlines()
                 if line.startswith("| ")}  # fmt: skip
        cells = {row: dict(zip(lines["fields"], of, strict=True)) for row, of in lines.items()}
        assert cells["optimizer.ema=0.9"][" boundary_f1 "] == " – "
        assert cells["optimizer.ema=0.0"][" boundary_f1 "] == " 0.5000 "
        # As a shell takes it.
        (command,) = (x for x in shown.splitlines() if "experiments.compare" in x)
        typed = shlex.split(command.partition("Costs and classes: ")[2])[3:]
        assert typed == [str(root / f"optimizer.ema={value}") for value in values.split(",")]


@pytest.mark.slow
def test_an_error_of_process_0_ends_all(tmp_path, capfd, monkeypatch):
    """Were it to go on, its steps would meet those of the run that process 1 is still in."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL, "--sweep=seed=0..1"]
    with lock.locked(tmp_path / "seed=0"):
        assert launch.main([*command, "--processes=2"]) == 2
    assert "seed=0 is being trained by another launch" in capfd.readouterr().err
    assert not (tmp_path / "seed=1").exists() and not (tmp_path / "sweep.json").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--sweep=model.widht=4,8"], "model.width"),
        (["--sweep=model.width=4,many"], "'many'"),
        (["--sweep=model.depth=1,0"], "UNet.depth must be at least 1"),
        (["--sweep=data.batch_size=8,13"], "nearest that is divisible is 16"),
        (["--sweep=data.validation_split=validation,tests"], "tests"),
        (["--sweep=split=validation,test"], "scores of several splits share no table; set one by"),
        (["--sweep=seed=0..1", "--overfit=8"], "one run at a time"),
        (["evaluate", "--sweep=seed=0..1"], "one run at a time"),
    ],
)
def test_bad_values_are_refused_before_the_first_run(more, words, tmp_path, trained, capsys):
    assert launch.main(["quickstart", *more, "--workdir", str(tmp_path / "s"), *SMALL]) == 2
    assert words in capsys.readouterr().err
    assert trained[0] == [] and not (tmp_path / "s").exists()


def test_dry_run_lists_the_grid(tmp_path, trained, capsys):
    command = ["quickstart", "--workdir", str(tmp_path / "s"), *SMALL, *GRID, "--dry-run"]
    assert launch.main(command) == 0
    assert "[6/6]" in capsys.readouterr().out and not (tmp_path / "s").exists()


@pytest.mark.slow
def test_two_real_seeds(tmp_path, capsys):
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL, "--sweep=seed=0..1"]
    assert launch.main(command) == 0
    assert (tmp_path / "seed=1" / "checkpoints").is_dir()
    capsys.readouterr()
    scores = []
    for seed in range(2):
        evaluate = ["quickstart", "evaluate", "--workdir", str(tmp_path / f"seed={seed}"), "--json"]
        assert launch.main(evaluate) == 0
        scores.append(json.loads(capsys.readouterr().out)["mean_iou"])
    assert launch.main(command) == 0
    spread = f"{statistics.fmean(scores):.4f} ± {statistics.stdev(scores):.4f}"
    assert f"| as it is | 2 | {spread} |" in capsys.readouterr().out
