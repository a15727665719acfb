"""One launch at a time for a workdir: two would write into each other's files."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import sys
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds a workdir; ValueError where another launch on this machine does.

    The file lies in $ZOO_CACHE, as nothing of a workdir is touched before all is checked; the
    system lets go of it whenever the process ends. Of many processes, 0 holds it for all. Where
    the cache cannot be written, or its file system has no locks, a launch goes on without.
    """
    folder = pathlib.Path(os.environ.get("ZOO_CACHE") or "~/.cache/zoo").expanduser() / "locks"
    mark = hashlib.sha256(os.path.realpath(workdir).encode()).hexdigest()[:16]
    with contextlib.ExitStack() as held:
        if jax.process_index() == 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(open(folder / f"{mark}.lock", "w"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                problem = f"{workdir} is being trained by another launch"
                raise ValueError(f"{problem}: wait for it, or choose another --workdir.") from error
            except OSError as error:
                print(f"Warning: no lock for {workdir}: {error}", file=sys.stderr)
        yield
