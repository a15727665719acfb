"""Large pages of memory for a program that computes on a CPU, under Linux.

XLA asks for the memory of a step anew each time, and the kernel clears it and maps it by pages of 4
KiB. By pages of 2 MiB a step takes up to a quarter less time (experiments/bench/NOTES.md). Linux
gives these to programs that ask, glibc asks if it was told so when the process started, and so a
program starts itself once more. PyTorch has a switch for it, too: THP_MEM_ALLOC_ENABLE.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_TUNABLE = "glibc.malloc.hugetlb"


def to_ask(environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment of a new process lacks; {} where asking is of no use, or was decided.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=0 decides that a program does without. glibc before 2.35,
    and other C libraries, ignore the variable.
    """
    chosen = environment.get("GLIBC_TUNABLES", "")
    try:
        given_if_asked = "[madvise]" in SETTING.read_text()
    except OSError:  # Not Linux, or a Linux without.
        return {}
    if not given_if_asked or _TUNABLE in chosen:
        return {}
    return {"GLIBC_TUNABLES": f"{chosen}:{_TUNABLE}=1".lstrip(":")}


def restart_to_ask() -> None:
    """Starts this program anew, as the same process, if that makes it ask. Comes first in it."""
    if missing := to_ask(os.environ):
        # Its whole path: by a bare name Python would look for its packages along PATH.
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **missing})
