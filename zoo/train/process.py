"""What a program, and never a library, sets for its whole process."""

import logging
import os
import pathlib

import jax
from jaxlib.version import __version_info__ as jaxlib_version

_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def set_up_process() -> None:
    """Keeps compiled programs between runs, and quiets libraries that tell what they do.

    Programs go to JAX_COMPILATION_CACHE_DIR, `$ZOO_CACHE/xla` or `~/.cache/zoo/xla`. Call it first.
    """
    use_all_cores()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = os.environ.get("ZOO_CACHE") or pathlib.Path.home() / ".cache" / "zoo"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(root) / "xla"))
    # Through absl Orbax and Grain warn of what they were told, and log errors that they raise.
    logging.getLogger("absl").setLevel(logging.CRITICAL)


def use_all_cores() -> None:
    """Takes XLA's own convolutions on CPU where those of YNNPACK, its default, keep to one core.

    jaxlib 0.10.2 to 0.11 have them; a step of U-Net takes 1.2 to 1.5 times as long by them
    (experiments/bench/NOTES.md). XLA reads the flag at the first computation, and ends the process
    where it does not know it. Who sets it in XLA_FLAGS has precedence.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if (0, 10, 2) <= jaxlib_version < (0, 12) and _FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}=".lstrip()
