"""Launches of many processes: started, joined, and watched, so that a lost one is told in words.

JAX's runtime aborts whoever has lost another process, with a page of C++ and no Python left to say
why. So a launch of many has a parent that imports no JAX: it runs the same command once more as its
child (on one machine: as all its children) and tells how that ended.
"""

import argparse
import contextlib
import glob
import importlib.util
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Iterator, Mapping, Sequence

HEARTBEAT = 15  # Seconds without a sign of life after which JAX takes a process for dead.
REPORT = 24 * 3600  # Seconds that a report may take at most.
LOST = 75  # Exit code: a process of the run is gone (EX_TEMPFAIL of sysexits.h: try again).
FAULT = 70  # A child's exit code after its own traceback (EX_SOFTWARE); 1 is taken, see below.
ABORTED = (1, LOST, -signal.SIGABRT)  # JAX 0.7's runtime ends a process by exit(1), later abort().
STOPPED = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # Ends of a child after which all is well.
_CHILD = "ZOO_LAUNCH_CHILD"  # Set where a parent watches: to "here" if over all, or "alone".
COMMAND = "ZOO_COMMAND"  # The parent's command line, JSON; a child's has more options.
_GCE = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
# What stands in the errors of JAX's runtime and its collectives where another process is gone.
_BROKEN = ("Gloo", "NCCL", "UNAVAILABLE:", "ABORTED:", "DEADLINE_EXCEEDED:", "oordination service")
_AGAIN = (
    "Launch the same command again to go on from the last checkpoint, on any number of processes."
)


def add_options(p: argparse.ArgumentParser) -> None:
    many = p.add_argument_group(
        "many processes", "Found without any option in a step of Slurm, on GKE and on a TPU pod."
    )
    many.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, a free port there")
    many.add_argument(
        "--processes", type=int, metavar="N",
        help="of the run; 1: this one alone, wherever it is; without --process: all N on this "
        "machine, for trying",
    )  # fmt: skip
    many.add_argument("--process", type=int, metavar="I", help="which of them this is, 0..N-1")


def check(args: argparse.Namespace) -> None:
    """Raises ValueError where the options of `add_options` do not fit together."""
    if args.processes is not None and args.processes < 1:
        raise ValueError(f"--processes must be at least 1; got {args.processes}.")
    if args.coordinator is None and args.process is None:
        return
    if None in (args.coordinator, args.process, args.processes):
        needs = "--coordinator HOST:PORT, --processes N and --process I go together"
        raise ValueError(f"{needs}; --processes N alone starts all N on this machine.")
    host, _, port = args.coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"--coordinator must be HOST:PORT; got {args.coordinator!r}.")
    if not 0 <= args.process < args.processes:
        last = args.processes - 1
        raise ValueError(f"--process must be in 0..{last}, --processes - 1; got {args.process}.")


def leads(args: argparse.Namespace) -> bool:
    """Whether this launch is the parent of a run of many; ValueError as `check`."""
    check(args)
    if _CHILD in os.environ or args.name == "list" or args.dry_run or args.overfit is not None:
        return False
    return in_cluster(os.environ) if args.processes is None else args.processes > 1


def in_cluster(env: Mapping[str, str]) -> bool:
    """Whether this is one of many processes that Slurm, Kubernetes or a TPU pod has started.

    As narrow as JAX's own detection allows: a machine with one TPU host, a batch script of Slurm
    before its `srun`, and a pod that is no indexed Job are alone. Raises ValueError where a pod of
    an indexed Job lacks the package by which JAX would find the others.
    """
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return True
    hosts = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts or int(env.get("MEGASCALE_NUM_SLICES", 1)) > 1:  # TPUs of GKE.
        return True
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= env.keys():
        if importlib.util.find_spec("kubernetes") is None:
            problem = "This pod is of an indexed Job, whose others cannot be found"
            raise ValueError(f"{problem}: pip install 'jax[k8s]', or --processes 1 to be alone.")
        return True
    # A TPU machine of Google Compute Engine; where there is no TPU, nobody is asked.
    accelerators = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    if not accelerators or "TPU_SKIP_MDS_QUERY" in env or not importlib.util.find_spec("libtpu"):
        return False
    headers = {"Metadata-Flavor": "Google"}
    question = urllib.request.Request(_GCE + "worker-network-endpoints", headers=headers)
    try:
        with urllib.request.urlopen(question, timeout=5) as answer:
            return b"," in answer.read()
    except OSError:
        return False


@contextlib.contextmanager
def joined(args: argparse.Namespace) -> Iterator[None]:
    """Meets the others of the run, if this is a child of one; must come before any use of JAX."""
    if _CHILD not in os.environ:
        yield
        return
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Gloo greets on stdout, by C, where `evaluate --json` writes: what is not Python's is stderr's.
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import jax

    where = {}
    if args.coordinator is not None:
        where = {"coordinator_address": args.coordinator, "num_processes": args.processes}
        where["process_id"] = args.process
    if os.environ[_CHILD] == "here":
        where["local_device_ids"] = [args.process]  # Of GPUs one each; CPUs are not counted so.
    where["heartbeat_timeout_seconds"] = HEARTBEAT
    # At the end the others wait for process 0, which writes the report; in JAX 0.7 five minutes.
    if "shutdown_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters:
        where["shutdown_timeout_seconds"] = REPORT
    jax.distributed.initialize(**where)
    try:
        yield
    except Exception as error:
        # A connection that broke comes as this too, its type another in each version of JAX, and
        # sooner than the runtime's own verdict.
        text = "".join(traceback.format_exception(error))
        broken = any(word in text for word in _BROKEN)
        if isinstance(error, ValueError | OSError) and not broken:
            raise  # Told by the launcher.
        sys.stderr.write(text)
        _exit(
            LOST if broken else FAULT
        )  # Python's own end would wait for the others, minutes long.


def leave(code: int) -> int:
    """The exit code; a child with an error ends here, since JAX's own exit waits for the others."""
    if _CHILD in os.environ and code not in STOPPED:
        import jax

        # With process 0 ends the coordinator, which aborts the others, which may still have to
        # print the same error.
        time.sleep(0 if jax.process_index() else 3)
        _exit(FAULT if code == 1 else code)  # A sweep's or a check's 1 is no abortion.
    return code


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    """A parent that was killed must leave no child that goes on writing into the workdir."""
    os.read(0, 1)  # Nothing is ever written: this returns at the end of the file.
    os._exit(LOST)


def lead(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Runs `argv`, the launcher's, in children; returns the exit code and tells what it means.

    SIGINT and SIGTERM go on to them as SIGTERM, after which all stop at one step and save.
    """
    here = args.processes is not None and args.process is None
    wheres = [()]
    if here:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        wheres = [("--coordinator", address, "--process", str(i)) for i in range(args.processes)]
    children = [_start([*argv, *where], i, here) for i, where in enumerate(wheres)]
    readers = [
        threading.Thread(target=_prefixed, args=(source, target, i))
        for i, child in enumerate(children)
        for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
        if source is not None
    ]
    for reader in readers:
        reader.start()
    asked = []

    def forward(signum, frame):
        for child in children:
            child.send_signal(signal.SIGKILL if asked else signal.SIGTERM)
        asked.append(signum)

    before = {s: signal.signal(s, forward) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        first = _watch(children)
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdin.close()
        for reader in readers:
            reader.join()
        for s, handler in before.items():
            signal.signal(s, handler)
    code = children[first].returncode
    if code >= 0 and code not in ABORTED:
        return code  # It has said why.
    if asked:
        print("Stopped; launch the same command again to go on.", file=sys.stderr)
        return 128 + asked[0]
    which = first if here else args.process
    who = "This process" if which is None else f"Process {which} of {args.processes}"
    print(f"error: {_end_in_words(who, code, here)} {_AGAIN}", file=sys.stderr)
    return LOST


def _watch(children: Sequence[subprocess.Popen]) -> int:
    """Waits until all have ended; the index of the first that ended badly, or of any."""
    first, until = None, None
    while any(child.poll() is None for child in children):
        bad = [i for i, child in enumerate(children) if child.poll() not in (None, *STOPPED)]
        if bad and first is None:
            first = bad[0]
            # One that was killed has told the others nothing: they can only wait in vain.
            until = time.monotonic() + (0 if children[first].returncode < 0 else HEARTBEAT)
        if until is not None and time.monotonic() >= until:
            for child in children:
                child.kill()
        time.sleep(0.1)
    if first is None:
        codes = [child.returncode for child in children]
        first = max(range(len(codes)), key=lambda i: (codes[i] not in STOPPED, codes[i] != 0))
    return first


def _end_in_words(who: str, code: int, here: bool) -> str:
    if code in ABORTED:
        return f"{who} lost another one, which died, cannot be reached or never came: see its log."
    others = " The others were stopped." if here else " The others notice it within 30 seconds."
    return f"{who} was killed by {signal.Signals(-code).name}.{others}"


def _start(argv: Sequence[str], index: int, here: bool) -> subprocess.Popen:
    """The launcher as a child: deaf to the terminal's Ctrl-C, on one machine with its own prefix.

    What process 0 says on stdout is the run's own and stays as it is.
    """
    out = err = None
    more = {_CHILD: "here" if here else "alone", COMMAND: json.dumps(sys.argv)}
    if here and importlib.util.find_spec("libtpu"):
        more["JAX_PLATFORMS"] = "cpu"  # One process has the TPU; the others would not say so.
    if here:
        out, err = (None if index == 0 else subprocess.PIPE), subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.launch", *argv],
        stdin=subprocess.PIPE, stdout=out, stderr=err, text=True, start_new_session=True,
        env={**os.environ, **more},
    )  # fmt: skip


def _prefixed(source, target, index: int) -> None:
    with source:
        for line in source:
            if not line.startswith("[Gloo] Rank"):  # Its greeting, once for each device.
                target.write(f"[{index}] {line}")
                target.flush()
