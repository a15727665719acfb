"""What a program, and never a library, sets for its whole process."""

import logging
import os
import pathlib

import jax


def set_up_process() -> None:
    """Keeps compiled programs between runs, and quiets libraries that tell what they do.

    Programs go to JAX_COMPILATION_CACHE_DIR, else `$ZOO_CACHE/xla`, else `~/.cache/zoo/xla`.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = os.environ.get("ZOO_CACHE") or pathlib.Path.home() / ".cache" / "zoo"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(root) / "xla"))
    # Orbax and Grain warn through absl of what they were told to do.
    logging.getLogger("absl").setLevel(logging.ERROR)
