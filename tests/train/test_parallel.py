"""1 device = 8 devices = 2 processes of 4; pmap = jit."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from zoo.train.parallel import Layout, to_host

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "parity.py"


def load(name):
    """A module beside this file."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parity, processes = load("parity"), load("processes")


@pytest.fixture(scope="module", params=[None, "batch"], ids=["plain", "batch_norm"])
def reference(request):
    """One device, all in one batch."""
    return request.param, parity.train(Layout(devices=jax.devices()[:1]), request.param)


def assert_equal(got, want, tolerance=1e-5):
    """DESIGN's "equal to t", leaf by leaf; counts to the last one."""
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        scale = np.abs(w).max() if w.dtype.kind == "f" else 0
        assert np.abs(np.subtract(g, w, dtype=np.float64)).max() <= tolerance * scale


@pytest.mark.slow
@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_eight_devices_take_the_steps_of_one(reference, how):
    assert jax.device_count() == 8
    norm, (want, losses) = reference
    got, found = parity.train(Layout(how), norm)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for part in want:
        assert_equal(got[part], want[part])


@pytest.mark.slow
def test_accumulation_takes_the_steps_of_one_batch():
    want, losses = parity.train(Layout(devices=jax.devices()[:2]), None)
    got, found = parity.train(Layout(devices=jax.devices()[:2]), None, accumulate=4)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for part in want:
        assert_equal(got[part], want[part])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_two_processes_take_the_steps_of_one(reference, how, tmp_path):
    norm, (want, losses) = reference
    files = processes.run_two(SCRIPT, tmp_path, how, str(norm))
    for file in files:
        found = dict(np.load(file))
        np.testing.assert_allclose(found.pop("losses"), losses, rtol=1e-5)
        got = jax.tree.unflatten(jax.tree.structure(want), list(found.values()))
        for part in want:
            assert_equal(got[part], want[part])


def test_a_batch_that_does_not_divide_names_the_nearest_that_does():
    with pytest.raises(ValueError, match=r"batch_size=13 .* 8 devices; the nearest .* is 16"):
        Layout().check_batch(13)
    with pytest.raises(ValueError, match=r"accumulate=2; the nearest .* is 16"):
        Layout().check_batch(8, 2)
    Layout().check_batch(16, 2)


def test_an_unknown_dispatcher_is_refused():
    with pytest.raises(ValueError, match="jit, pmap; got 'xmap'"):
        Layout("xmap")


def test_the_host_copy_outlives_a_donation():
    layout = Layout()
    state = layout.put({"x": np.arange(3.0)})
    kept = to_host(state)
    add = layout.map(lambda s, b, axis_name: {"x": s["x"] + 1}, donate=True)
    for _ in range(3):
        state = add(state, layout.split({"y": np.zeros(8)}))
    np.testing.assert_array_equal(kept["x"], np.arange(3.0))
    np.testing.assert_array_equal(to_host(state)["x"], np.arange(3.0) + 3)
