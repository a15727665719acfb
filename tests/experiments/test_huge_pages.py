import os
import runpy
import subprocess
import sys

import pytest

from experiments import huge_pages

PROGRAM = """
import os, pathlib, sys
from experiments import huge_pages
huge_pages.SETTING = pathlib.Path({setting!r})
print("starts", os.getpid(), flush=True)
huge_pages.restart_to_ask()
print("runs", os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES"))
"""


@pytest.fixture
def setting(tmp_path, monkeypatch):
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    monkeypatch.setattr(huge_pages, "SETTING", path)
    return path


def test_it_asks_where_linux_gives_to_those_who_ask(setting):
    assert huge_pages.to_ask({}) == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    chosen = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    asked = huge_pages.to_ask(chosen)
    assert asked == {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"}
    assert huge_pages.to_ask(asked) == {}


@pytest.mark.parametrize("text", ["[always] madvise never\n", "always madvise [never]\n", None])
def test_it_does_not_where_that_is_of_no_use(setting, text):
    setting.write_text(text) if text else setting.unlink()
    assert huge_pages.to_ask({}) == {}


def test_who_decided_has_precedence(setting):
    assert huge_pages.to_ask({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}) == {}


def test_a_program_starts_once_more_as_the_same_process(setting):
    command = [sys.executable, "-c", PROGRAM.format(setting=str(setting)), "--set", "a=b c"]
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, second, last = done.stdout.splitlines()
    assert first == second  # Its number stays, so signals and whoever waits find it.
    number = first.removeprefix("starts ")
    assert last == f"runs {number} ['--set', 'a=b c'] glibc.malloc.hugetlb=1"


def test_the_launcher_asks(setting, monkeypatch):
    class Restarted(Exception):
        pass

    def execve(program, argv, environment):
        raise Restarted(program, argv, environment["GLIBC_TUNABLES"])

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.delitem(sys.modules, "experiments.launch", raising=False)
    with pytest.raises(Restarted) as found:
        runpy.run_module("experiments.launch", run_name="__main__")
    command = [sys.executable, *sys.orig_argv[1:]]
    assert found.value.args == (sys.executable, command, "glibc.malloc.hugetlb=1")
