"""1 device = 8 devices = 2 processes of 4 = 4 of 2; pmap = jit = fsdp."""

import dataclasses
import importlib.util
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.data.info import Info
from zoo.models import FCN8s, UNet
from zoo.train import loop, parallel
from zoo.train.config import Optimizer
from zoo.train.parallel import Layout, to_host
from zoo.train.run import Run
from zoo.train.segmentation import Segmentation
from zoo.train.state import TrainState
from zoo.train.step import make_train_step

HALVES = slice(4), slice(4, 8)  # Of a batch of 8.
HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "parity.py"


def load(name):
    """A module beside this file."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parity, processes, run = load("parity"), load("processes"), load("test_loop")
experiment, arrays = run.experiment, run.arrays


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
@pytest.mark.parametrize("how", ["jit", "pmap", "fsdp"])
def test_eight_devices_take_the_steps_of_one(reference, how, monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 64)
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
def test_a_part_of_a_batch_holds_the_same_rows_on_any_devices(monkeypatch):
    """Batch norm tells: it sees a part."""
    monkeypatch.setattr(parallel, "SMALL", 64)
    want, losses = parity.train(Layout(devices=jax.devices()[:1]), "batch", accumulate=2)
    for how, count in (("jit", 4), ("fsdp", 2)):
        layout = Layout(how, devices=jax.devices()[:count])
        got, found = parity.train(layout, "batch", accumulate=2)
        np.testing.assert_allclose(found, losses, rtol=1e-5)
        for part in want:
            assert_equal(got[part], want[part])


def test_rows_are_ordered_so_that_parts_are_runs_of_the_batch():
    """A step takes every second row of a device as part 0: of 0..7 these are 0, 1 and 2, 3."""
    rows = Layout(devices=jax.devices()[:2]).split({"y": np.arange(8)}, 2)["y"]
    assert [shard.data.tolist() for shard in rows.addressable_shards] == [
        [0, 4, 1, 5],
        [2, 6, 3, 7],
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "count"), [("jit", 2), ("pmap", 2), ("fsdp", 2), ("jit", 4)])
def test_several_processes_take_the_steps_of_one(reference, how, count, tmp_path):
    norm, (want, losses) = reference
    files = processes.run(count, SCRIPT, tmp_path, how, str(norm))
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


def test_devices_may_keep_batch_norm_to_their_own_rows():
    """Gradients as of one device that accumulates their shares, statistics the shares' mean."""
    rule = Optimizer(name="sgd", learning_rate=1e-2, ema=0.9)
    model = UNet(num_classes=11, width=4, depth=1, norm="batch", dropout_rate=0.0)
    apart = experiment(optimizer=rule, model=model, sync_batch_norm=False)
    two, one = (Run(apart, Layout(devices=jax.devices()[:n])) for n in (2, 1))
    batch, state = one.train_items()[0], one.initial_state()
    got, metrics = jax.device_get(two.train_step(two.layout.put(state), two.layout.split(batch)))

    parts = dataclasses.replace(apart, optimizer=dataclasses.replace(rule, accumulate=2))
    both = Run(parts, one.layout)
    want, expected = jax.jit(both.step)(state, both.split(batch))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)
    assert_equal(got.opt_state, jax.device_get(want.opt_state))
    step = jax.jit(one.step)
    halves = [step(state, {k: x[rows] for k, x in batch.items()})[0].batch_stats for rows in HALVES]
    assert_equal(got.batch_stats, jax.tree.map(lambda a, b: np.add(a, b) / 2, *halves))
    with pytest.raises(AssertionError):  # All rows together have another variance.
        assert_equal(got.batch_stats, jax.device_get(step(state, batch)[0].batch_stats), 1e-3)


def test_fsdp_sees_no_rows_of_its_own():
    with pytest.raises(ValueError, match="sync_batch_norm=False needs --parallel jit or pmap"):
        Run(experiment(sync_batch_norm=False), Layout("fsdp"))


def devices_of(*told):
    return [types.SimpleNamespace(process_index=p, device_kind=kind) for p, kind in told]


def test_devices_lie_in_the_order_of_the_processes(monkeypatch):
    """As the rows of a batch do: TPUs come in the order of a ring, which mixes the hosts."""
    seen, own = [], jax.devices()[:4]
    mesh = parallel._mesh(own)
    monkeypatch.setattr(parallel, "_mesh", lambda devices: seen.append(devices) or mesh)
    ring = devices_of((0, "v5e"), (1, "v5e"), (1, "v5e"), (0, "v5e"))
    Layout(devices=ring)
    assert seen[0] == [ring[0], ring[3], ring[1], ring[2]]


def test_devices_of_several_kinds_are_refused():
    with pytest.raises(ValueError, match="of one kind; got A100, H100: choose some"):
        Layout(devices=devices_of((0, "H100"), (0, "A100")))


def test_gpus_of_several_machines_make_a_mesh(monkeypatch):
    """`jax.make_mesh` refuses devices whose `slice_index` differ, which is a machine's own."""
    monkeypatch.setattr(jax, "make_mesh", lambda *_, **__: pytest.fail("not to be called"))
    assert Layout(devices=jax.devices()[:2]).count == 2


def test_an_unknown_dispatcher_is_refused():
    with pytest.raises(ValueError, match="jit, pmap, fsdp; got 'xmap'"):
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


def test_each_device_keeps_a_share_of_what_is_large(monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 64)
    layout = Layout("fsdp")
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 16, 8), "odd": (9, 9), "bias": (8,), "step": ()}
    state = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    shares = {"kernel": (3, 3, 2, 8), "odd": (9, 9), "bias": (8,), "step": ()}

    def check(tree, factor):
        assert {k: x.addressable_data(0).shape for k, x in tree.items()} == shares
        for name, array in to_host(tree).items():
            np.testing.assert_allclose(array, factor * state[name], rtol=1e-6)

    put = layout.put(state)
    check(put, 1)
    times = layout.map(lambda s, b, axis_name: {k: x * b["y"].sum() for k, x in s.items()})
    check(times(put, layout.split({"y": np.ones(16, np.float32)})), 16)


@pytest.mark.slow
def test_the_memory_of_fcn_falls_with_the_devices():
    """FCN-8s at a quarter of its width: 8.4 million parameters, and as many of momentum."""
    info = Info("test", 3, tuple("abc"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), 255, 3)
    task, tx = Segmentation().bind(info), optax.sgd(0.1, momentum=0.9)
    model = FCN8s(num_classes=3, width=16)
    blank = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), blank)["params"]
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    state = TrainState(np.int32(0), params, {}, tx.init(params), None)
    batch = {"image": (8, 32, 32, 3), "label": (8, 32, 32), "weight": (8,)}
    batch = {k: np.zeros(s, np.int32 if k == "label" else np.float32) for k, s in batch.items()}
    found = {}
    for how in ("jit", "fsdp"):
        layout = Layout(how)
        step = layout.map(make_train_step(model, task, tx), donate=True)
        compiled = step.lower(layout.put(state), layout.split(batch)).compile()
        found[how] = compiled.memory_analysis()
    assert found["fsdp"].argument_size_in_bytes < found["jit"].argument_size_in_bytes / 7
    assert found["fsdp"].temp_size_in_bytes < found["jit"].temp_size_in_bytes / 2


@pytest.mark.slow
def test_a_run_goes_on_with_its_state_shared(tmp_path, monkeypatch):
    """Two steps by jit and two by fsdp, from one checkpoint to the next, are four by jit."""
    monkeypatch.setattr(parallel, "SMALL", 64)
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    model = UNet(num_classes=11, width=4, depth=2, norm="batch", dropout_rate=0.0)
    still = {"optimizer": Optimizer(name="sgd", learning_rate=1e-2, ema=0.9), "model": model}

    def go_on(workdir, how, steps):
        loop.train("small", experiment(steps=steps, **still), workdir, Layout(how))

    go_on(whole, "jit", 4)
    go_on(shared, "jit", 2)
    go_on(shared, "fsdp", 4)
    go_on(shared, "fsdp", 4)  # Only scored again.
    (step, got), (other, want) = arrays(shared), arrays(whole)
    assert step == other == 4
    for name, array in want.items():
        assert_equal(got[name], array)
