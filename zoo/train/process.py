"""What a program, and never a library, sets for its whole process."""

import ctypes
import logging
import os
import pathlib

import jax
from jaxlib.version import __version_info__ as jaxlib_version

_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def set_up_process() -> None:
    """Keeps compiled programs between runs, and quiets libraries that tell what they do.

    Programs go to JAX_COMPILATION_CACHE_DIR, else `$ZOO_CACHE/xla`, else `~/.cache/zoo/xla`. Comes
    before the first computation, for the sake of `use_all_cores` and `keep_memory`.
    """
    use_all_cores()
    keep_memory()
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


def keep_memory() -> None:
    """Lets the C library keep what XLA frees on CPU, where that is glibc.

    It takes large blocks, as those of a step, from the system each time, which fills them with
    zeros, page by page (experiments/bench/NOTES.md). All threads then share one pool of memory,
    which does not shrink. Comes before XLA's begin; who sets GLIBC_TUNABLES or MALLOC_ARENA_MAX has
    precedence.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Linux's; musl and macOS have none.
    if mallopt and not {"GLIBC_TUNABLES", "MALLOC_ARENA_MAX"} & os.environ.keys():
        arenas, from_system, trim, maps, most = -8, -3, -1, -4, 2**31 - 1
        mallopt(arenas, 1), mallopt(trim, most)
        # An older glibc refuses so high a threshold; none at all goes anywhere.
        mallopt(from_system, most) or mallopt(maps, 0)
