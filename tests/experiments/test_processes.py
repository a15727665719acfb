"""Launches of many processes: what is asked, who is alone, and what is said when one is gone."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import ports
from experiments import launch, processes
from zoo.train.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    "--set=model.width=4", "--set=model.depth=2", "--set=data.batch_size=8",
    "--set=eval_every=400", "--set=checkpoint_every=2", "--set=log_every=2",
    "--set=optimizer.schedule=constant", "--set=optimizer.name=sgd",
    "--set=data.options.train_scenes=16", "--set=data.options.validation_scenes=9",
    "--set=data.options.test_scenes=9",
]  # fmt: skip


def started(monkeypatch, *programs):
    """`lead` over children that run these programs instead of the launcher."""

    def start(argv, index, here):
        command = [sys.executable, "-c", f"import os, signal, time\n{programs[index]}"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    monkeypatch.setattr(processes, "_start", start)
    begun = time.monotonic()
    options = ["quickstart", "--processes", str(len(programs))]
    code = processes.lead(launch.parser().parse_args(options), options)
    return code, time.monotonic() - begun


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--processes=0"], "at least 1; got 0"),
        (["--coordinator=host:1"], "go together"),
        (["--processes=2", "--process=1"], "go together"),
        (["--processes=2", "--process=2", "--coordinator=host:1"], "in 0..1, .* got 2"),
        (["--processes=2", "--process=1", "--coordinator=host"], "HOST:PORT; got 'host'"),
        (["--processes=2", "--process=1", "--coordinator=:80"], "HOST:PORT; got ':80'"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options, words, capsys):
    assert launch.main(["quickstart", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    assert re.search(words, error)


SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
}  # fmt: skip
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}


@pytest.mark.parametrize(
    ("env", "many"),
    [
        ({}, False),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, False),  # `srun --pty bash` in a job of two.
        (SLURM, False),  # A batch script, before its srun.
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "0"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, False),  # Colab, Kaggle.
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
    ],
)
def test_only_a_process_of_many_is_in_a_cluster(env, many):
    assert processes.in_cluster(env) == many


def test_a_pod_that_cannot_find_the_others_does_not_train_alone(monkeypatch):
    """Each would, into one workdir."""
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'jax\[k8s\]', or --processes 1"):
        processes.in_cluster(POD)
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: name)
    assert processes.in_cluster(POD)


def test_who_asks_to_be_alone_is(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    parse = launch.parser().parse_args
    assert processes.leads(parse(["quickstart"]))
    assert not processes.leads(parse(["quickstart", "--processes=1"]))
    assert not processes.leads(parse(["quickstart", "--dry-run"]))
    assert not processes.leads(parse(["list"]))


def test_a_killed_process_is_told_and_ends_the_others(monkeypatch, capfd):
    killed = "os.kill(os.getpid(), signal.SIGKILL)"
    code, seconds = started(monkeypatch, "time.sleep(100)", killed)
    error = capfd.readouterr().err
    assert code == processes.LOST == 75 and seconds < 10
    assert "error: Process 1 of 2 was killed by SIGKILL. The others were stopped." in error
    assert "Launch the same command again to go on" in error


def test_an_abort_is_told_as_a_lost_peer(monkeypatch, capfd):
    for end in ("os.abort()", "raise SystemExit(1)", "raise SystemExit(75)"):
        assert started(monkeypatch, end, "")[0] == 75
        assert "Process 0 of 2 lost another one" in capfd.readouterr().err


def test_a_child_s_own_1_is_no_abort(monkeypatch):
    """As of a sweep with a run that failed: the parent would tell of a lost process."""
    monkeypatch.setenv(processes._CHILD, "here")
    monkeypatch.setattr(processes, "_exit", lambda code: ended.append(code))
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    ended = []
    for code in (1, 2, processes.LOST):
        processes.leave(code)
    assert ended == [processes.FAULT, 2, processes.LOST] and processes.leave(0) == 0


def test_what_children_say_has_their_number(monkeypatch, capfd):
    code, _ = started(monkeypatch, "raise SystemExit(0)", "print('ah'); raise SystemExit(2)")
    assert code == 2
    assert started(monkeypatch, "", "raise SystemExit(70)")[0] == 70
    assert capfd.readouterr().out == "[1] ah\n"
    assert started(monkeypatch, "", "raise SystemExit(143)")[0] == 143
    assert started(monkeypatch, "", "")[0] == 0


def test_a_signal_reaches_every_child(monkeypatch):
    program = (
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(143))\n"
        "PARENT\n"
        "time.sleep(100)"
    )  # fmt: skip
    tell = "time.sleep(0.5); os.kill(os.getppid(), signal.SIGINT)"
    both = program.replace("PARENT", tell), program.replace("PARENT", "")
    code, seconds = started(monkeypatch, *both)
    assert code == 143 and seconds < 10


def started_as_on_two_hosts(workdir, *options):
    """Two launches, each with four devices, and the files of what they say."""
    env = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    }
    command = [sys.executable, "-m", "experiments.launch", "quickstart", "--workdir", str(workdir)]
    command += [*SMALL, *options, "--processes=2", f"--coordinator=localhost:{ports.free()}"]
    both, said = [], [workdir.with_name(f"{i}.txt") for i in range(2)]
    for i, path in enumerate(said):
        # A file, not a pipe: who says much must not wait until it is read.
        with path.open("w") as file:
            how = {"stdout": subprocess.DEVNULL, "stderr": file, "env": env, "cwd": ROOT}
            both.append(subprocess.Popen([*command, f"--process={i}"], **how))
    return both, said


@contextlib.contextmanager
def parents(workdir, step, *options):
    """Two launches as on two hosts when a step is saved; what is left of them is ended.

    And the files of what they say. Once more if somebody took their port meanwhile.
    """
    saved = workdir / "checkpoints" / str(step)
    for again in (True, False):
        both, said = started_as_on_two_hosts(workdir, *options)
        until = time.monotonic() + 300
        try:
            while not saved.exists() and [p.poll() for p in both] == [None, None]:
                assert time.monotonic() < until, "no checkpoint came"
                time.sleep(0.1)
            if saved.exists():
                yield both, said
                return
            errors = said[0].read_text()
            assert again and ports.taken(errors), errors
        finally:
            for p in both:
                p.kill()
                p.wait()


def state(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    step = checkpoints.steps()[-1]
    found = checkpoints.read(step)[0]
    checkpoints.close()
    return step, found


@pytest.mark.slow
def test_a_dead_peer_is_noticed_and_a_relaunch_goes_on(tmp_path):
    """As on two hosts; then on one, with other devices, to where a run never stopped comes."""
    workdir = tmp_path / "run"
    with parents(workdir, 4, "--set=steps=400") as (both, said):
        child = pathlib.Path(f"/proc/{both[1].pid}/task/{both[1].pid}/children").read_text()
        os.kill(int(child.split()[0]), signal.SIGKILL)
        killed = time.monotonic()
        codes = [p.wait(timeout=60) for p in both]
        assert time.monotonic() - killed < 30
    errors = [path.read_text() for path in said]
    assert codes == [75, 75], "\n".join(errors)
    assert "Process 0 of 2 lost another one" in errors[0]
    assert "Process 1 of 2 was killed by SIGKILL." in errors[1]
    # Written once, by process 0.
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == sorted({x["step"] for x in lines})

    steps = state(workdir)[0] + 2
    for place in (workdir, tmp_path / "whole"):
        options = ["--workdir", str(place), *SMALL, f"--set=steps={steps}"]
        assert launch.main(["quickstart", *options]) == 0
    (step, got), (other, want) = state(workdir), state(tmp_path / "whole")
    assert step == other == steps
    for name, array in want.items():
        difference = np.abs(np.subtract(got[name], array, dtype=np.float64)).max()
        # After a few steps a shift of batch norm is 1e-4, a sum of what nearly cancels.
        assert difference <= 1e-5 * np.abs(array).max() + 1e-8, name


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_one_step(tmp_path):
    with parents(tmp_path / "run", 2, "--set=steps=400") as (both, said):
        both[1].send_signal(signal.SIGTERM)
        codes = [p.wait(timeout=100) for p in both]
    errors = [path.read_text() for path in said]
    assert codes == [143, 143], errors
    told = [next(x for x in e.splitlines() if "Stopped by SIGTERM; step" in x) for e in errors]
    assert told[0] == told[1]
    assert f"step {state(tmp_path / 'run')[0]} is saved" in told[0]


@pytest.mark.slow
def test_two_processes_here_score_as_one(tmp_path, capfd, monkeypatch):
    """Nine pictures in batches of eight: none is lost, and none counts twice."""
    command = ["quickstart", "--workdir", str(tmp_path), *SMALL]
    assert launch.main([*command, "--set=steps=2"]) == 0
    capfd.readouterr()
    evaluate = ["quickstart", "evaluate", "--workdir", str(tmp_path), "--json"]
    assert launch.main(evaluate) == 0
    want = json.loads(capfd.readouterr().out)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    assert launch.main([*evaluate, "--processes=2"]) == 0
    got = json.loads(capfd.readouterr().out)
    assert got.pop("loss") == pytest.approx(want.pop("loss"), rel=1e-5)
    assert got == want
