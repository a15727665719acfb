"""Runs a program as several processes that share eight fake devices."""

import os
import pathlib
import socket
import subprocess
import sys


def run(
    count: int, script: pathlib.Path, folder: pathlib.Path, *arguments: str
) -> list[pathlib.Path]:
    """What SCRIPT OUT *ARGUMENTS COUNT PORT PROCESS wrote to OUT in each process, all of them well.

    `count` processes have 8 / count devices each.
    """
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    env = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={8 // count}",
        "JAX_PLATFORMS": "cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    }
    files = [folder / f"{i}.npz" for i in range(count)]
    workers = [
        subprocess.Popen(
            [sys.executable, script, file, *arguments, str(count), str(port), str(i)],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, file in enumerate(files)
    ]
    try:
        errors = [worker.communicate(timeout=400)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [0] * count, "\n".join(errors)
    return files
