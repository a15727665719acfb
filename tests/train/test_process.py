import os
import subprocess
import sys

import jax
import pytest
from jaxlib.version import __version_info__ as jaxlib_version

from zoo.train.process import set_up_process, use_all_cores

# Prints whose convolution it is.
COMPILES = """
import jax, jax.numpy as jnp
from zoo.train.process import use_all_cores
{call}
x, kernel = jnp.ones((16, 32, 32, 64)), jnp.ones((3, 3, 64, 32))
f = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=(
    "NHWC", "HWIO", "NHWC"))
print("YNNPACK" if "ynn" in jax.jit(f).lower(x, kernel).compile().as_text() else "XLA")
"""


@pytest.fixture(autouse=True)
def restored():
    before, flags = jax.config.jax_compilation_cache_dir, os.environ["XLA_FLAGS"]
    yield
    os.environ["XLA_FLAGS"] = flags
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept_under_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    set_up_process()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "xla")


def test_jax_s_own_variable_has_precedence(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    set_up_process()
    assert jax.config.jax_compilation_cache_dir == before


def compiled(call: str) -> str:
    env = {**os.environ, "XLA_FLAGS": ""}
    command = [sys.executable, "-c", COMPILES.format(call=call)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def test_convolutions_run_on_all_cores():
    """Where this fails on a new jaxlib, measure anew: the range of versions has had its day."""
    plain, chosen = compiled(""), compiled("use_all_cores()")
    if (0, 10, 2) <= jaxlib_version < (0, 12):
        assert (plain, chosen) == ("YNNPACK\n", "XLA\n")
    else:  # Another XLA may not know the flag.
        assert plain == chosen


def test_the_user_s_choice_of_convolutions_stays(monkeypatch):
    chosen = "--xla_cpu_experimental_ynn_fusion_type=dot"
    monkeypatch.setenv("XLA_FLAGS", chosen)
    use_all_cores()
    assert os.environ["XLA_FLAGS"] == chosen
