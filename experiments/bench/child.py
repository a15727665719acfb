"""One side of a row, in a process of its own: makes it, warms it up, and times it when told to.

python -m experiments.bench.child JSON, the fields of a Side. One JSON object a line on stdout:
first what is known after the warm-up, then, for each line of stdin, the seconds a call took,
and at the end of stdin the peak memory. Whatever libraries print goes to stderr.
"""

import importlib
import json
import math
import os
import re
import resource
import sys
import time

ROUND = 0.2  # Seconds that a round takes at least: short calls are repeated.


def peak_rss_mib() -> float:
    """The most memory this process had at a time; `getrusage` would count its parent's too."""
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) / 1024


def device_peak_mib(packages: list[str]) -> float:
    """The most memory of the GPU that the library had in use at a time."""
    if "jax" in packages:
        return sys.modules["jax"].local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    return sys.modules["torch"].cuda.max_memory_allocated() / 2**20


def cpu_seconds() -> float:
    """What this process, and those it started and saw end, have had of the processor."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**values) -> None:
        print(json.dumps(values), file=channel, flush=True)

    side = json.loads(sys.argv[1])
    if side["limit_gib"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, 2 * (side["limit_gib"] * 2**30,))
    if "jax" in side["packages"]:  # As the launcher does; Keras on JAX gets it too.
        from zoo.train.process import use_all_cores

        use_all_cores()
    start = time.perf_counter()
    module, _, name = side["make"].partition(":")
    case = getattr(importlib.import_module(module), name)(**side["options"])

    def round_of(calls: int) -> dict[str, float]:
        """Seconds a call, of the clock and of all cores together."""
        if case.clocked:
            return {"seconds": case.call()}
        start, cpu = time.perf_counter(), cpu_seconds()
        for _ in range(calls):
            case.call()
        case.wait()
        found = {"seconds": (time.perf_counter() - start) / calls}
        return found | ({} if case.elsewhere else {"cpu": (cpu_seconds() - cpu) / calls})

    value = case.call()
    case.wait()
    ready = time.perf_counter() - start
    calls = math.ceil(min(ROUND / round_of(1)["seconds"], 1000))
    versions = {p: importlib.import_module(p).__version__ for p in side["packages"]}
    value = None if case.clocked or value is None else float(value)
    say(value=value, ready=ready, calls=calls, facts=dict(case.facts), versions=versions)
    for _ in sys.stdin:
        say(**round_of(calls))
    device = {"device_peak_mib": device_peak_mib(side["packages"])} if side["gpu"] else {}
    say(peak_rss_mib=peak_rss_mib(), **device)


if __name__ == "__main__":
    main()
