"""Runs a program as several processes that share eight fake devices."""

import os
import pathlib
import subprocess
import sys

import ports


def run(
    count: int, script: pathlib.Path, folder: pathlib.Path, *arguments: str
) -> list[pathlib.Path]:
    """What SCRIPT OUT *ARGUMENTS COUNT PORT PROCESS wrote to OUT in each process, all of them well.

    `count` processes have 8 / count devices each. Once more if somebody took their port meanwhile.
    """
    files = [folder / f"{i}.npz" for i in range(count)]
    codes, errors = _run(script, files, arguments)
    if codes[0] and ports.taken(errors[0]):
        codes, errors = _run(script, files, arguments)
    assert codes == [0] * count, "\n".join(errors)
    return files


def _run(script, files, arguments) -> tuple[list[int], list[str]]:
    """Exit codes, and what stands on standard error."""
    count, port = len(files), ports.free()
    env = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={8 // count}",
        "JAX_PLATFORMS": "cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    }
    # Files, not pipes: who says much must not wait until it is read.
    said, workers = [file.with_suffix(".txt") for file in files], []
    try:
        for i, file in enumerate(files):
            command = [sys.executable, script, file, *arguments, str(count), str(port), str(i)]
            with said[i].open("w") as errors:
                workers.append(subprocess.Popen(command, env=env, stderr=errors))
        for worker in workers:
            # Without process 0 the others would wait for it for minutes.
            if worker.wait(timeout=400) and worker is workers[0]:
                break
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [worker.returncode for worker in workers], [path.read_text() for path in said]
