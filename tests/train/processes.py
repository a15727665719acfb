"""Runs a program as two processes of four fake devices each."""

import os
import pathlib
import socket
import subprocess
import sys


def run_two(script: pathlib.Path, folder: pathlib.Path, *arguments: str) -> list[pathlib.Path]:
    """What SCRIPT OUT *ARGUMENTS PORT PROCESS wrote to OUT in each process, both of them well."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    env = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    }
    files = [folder / f"{i}.npz" for i in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, script, file, *arguments, str(port), str(i)],
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
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    return files
