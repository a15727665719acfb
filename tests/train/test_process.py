import jax
import pytest

from zoo.train.process import set_up_process


@pytest.fixture(autouse=True)
def restored():
    before = jax.config.jax_compilation_cache_dir
    yield
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
