"""What is kept of a launch beside its numbers."""

import json
import pathlib
import subprocess
import sys

import jax

from experiments import environment, processes


def test_it_names_versions_devices_commit_and_seed():
    file, content = environment.record(7)
    values = json.loads(content)
    assert file == "environment.json"
    assert values["seed"] == 7 and json.loads(environment.record(None)[1])["seed"] is None
    assert values["command"] == sys.argv
    assert values["versions"]["jax"] == jax.__version__
    assert values["devices"]["count"] == jax.device_count()
    assert values["devices"]["platform"] == jax.default_backend()
    root = pathlib.Path(environment.__file__).parents[1]
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert values["git_commit"].removesuffix("-dirty") == head.stdout.strip()
    else:
        assert values["git_commit"] is None


def test_a_tag_does_not_hide_the_commit(tmp_path, monkeypatch):
    def git(*command):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *command], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    git("tag", "-a", "v1", "-m", "v1")
    (tmp_path / "experiments").mkdir()
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "experiments" / "environment.py"))
    for _ in range(2):  # At the tag, and behind it.
        assert environment._git_commit() == git("rev-parse", "HEAD")
        git("commit", "-q", "--allow-empty", "-m", "second")


def test_one_of_many_processes_tells_what_was_typed(monkeypatch):
    """Not its own command, which waits for a coordinator."""
    typed = ["launch.py", "quickstart", "--processes", "2"]
    monkeypatch.setenv(processes.COMMAND, json.dumps(typed))
    assert json.loads(environment.record(0)[1])["command"] == typed
