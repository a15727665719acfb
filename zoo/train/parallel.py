"""The devices: how a per-device program is mapped over them and fed. No other file knows.

Two dispatchers with one meaning: `jax.pmap`, and `jax.jit` of a `shard_map` over a mesh. The state
is the same on every device, a batch is split along its first axis. One process or many. By "fsdp"
XLA partitions the whole program, and each device keeps a share of a state too large for one.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "devices"  # The mapped axis; batch norm and `psum` name it.
HOW = ("jit", "pmap", "fsdp")
SMALL = 2**14  # Arrays of fewer elements stay whole under "fsdp": to gather them costs more.


class Layout:
    """All devices of all processes, or those given, as one mapped axis.

    `how` is "jit", a shard_map over a mesh, or "pmap", slower to dispatch. With "fsdp" no axis is
    mapped: `axis`, which models are to name, is None, and a step sees the whole batch. ValueError
    for another word, and for devices of several kinds.
    """

    def __init__(self, how: str = "jit", devices: list[jax.Device] | None = None):
        if how not in HOW:
            raise ValueError(f"parallel must be one of {', '.join(HOW)}; got {how!r}.")
        # In the order of the processes, as the rows of a batch are.
        self.how = how
        self.devices = sorted(devices or jax.devices(), key=lambda device: device.process_index)
        if len(kinds := sorted({device.device_kind for device in self.devices})) > 1:
            hint = "choose some, as by CUDA_VISIBLE_DEVICES"
            raise ValueError(f"Devices must be of one kind; got {', '.join(kinds)}: {hint}.")
        self.axis = None if how == "fsdp" else AXIS
        local = [d for d in self.devices if d.process_index == jax.process_index()]
        self.count, self.local_count = len(self.devices), len(local)
        self._mesh = _mesh(self.devices)
        # pmap's arrays live on the devices of one process.
        home = _mesh(local) if how == "pmap" else self._mesh
        self._replicated = NamedSharding(home, P())
        self._split = NamedSharding(home, P(AXIS))

    def check_batch(self, batch_size: int, accumulate: int = 1) -> None:
        """Raises ValueError where a global batch does not fall into equal parts."""
        unit = self.count * accumulate
        if batch_size % unit:
            near = max(round(batch_size / unit), 1) * unit
            parts = f"{self.count} device{'s' * (self.count > 1)}"
            parts += f" x optimizer.accumulate={accumulate}" if accumulate > 1 else ""
            problem = f"data.batch_size={batch_size} is not divisible by {parts}"
            raise ValueError(f"{problem}; the nearest that is divisible is {near}.")

    def map(self, step: Callable, *, donate: bool = False, alike: int = 0) -> Callable:
        """Maps `step(state, batch, axis_name)`; feed it with `put` and `split`.

        With `donate` the state's memory is used again: the old state must not be. Behind the batch
        come as many arguments as are `alike` on every device; "fsdp" takes none.
        """
        program = functools.partial(step, axis_name=self.axis)
        donated = (0,) if donate else ()
        if self.how == "fsdp":

            def whole(state, batch):
                out = program(state, batch)
                return jax.lax.with_sharding_constraint(out, jax.tree.map(self._share, out))

            return jax.jit(whole, donate_argnums=donated)
        if self.how == "pmap":
            devices = None if self.devices == jax.devices() else self.devices
            axes = {"axis_name": AXIS, "in_axes": (None, 0, *[None] * alike), "out_axes": None}
            return jax.pmap(program, devices=devices, donate_argnums=donated, **axes)
        axes = {"mesh": self._mesh, "in_specs": (P(), P(AXIS), *[P()] * alike), "out_specs": P()}
        # check_vma=False: with it, a gradient followed by psum is `count` times too large.
        mapped = jax.shard_map(program, check_vma=False, **axes)
        return jax.jit(mapped, donate_argnums=donated)

    def by_rows(self, program: Callable) -> Callable:
        """Compiles `program(variables, image)` -> [b, h', w', k] for pictures too large for one.

        What is mapped takes image [b, h, w, c] and keeps a share of the rows on each device, so
        that memory falls with their number; XLA exchanges the rows at the seams. It does so alone
        where h divides by devices x the model's stride; other heights gather a few small arrays.
        Returns h' rows and, below them, zeros up to a multiple of the devices.
        """
        split = NamedSharding(self._mesh, P(None, AXIS))
        shardings = {"in_shardings": (self._replicated, split), "out_shardings": split}

        def missing(rows):
            return ((0, 0), (0, -rows % self.count), (0, 0), (0, 0))

        @functools.partial(jax.jit, static_argnums=2, **shardings)
        def compiled(variables, image, rows):
            logits = program(variables, image[:, :rows])
            return jnp.pad(logits, missing(logits.shape[1]))

        def mapped(variables, image):
            filled = jax.device_put(np.pad(image, missing(image.shape[1])), split)
            return compiled(jax.device_put(variables, self._replicated), filled, image.shape[1])

        mapped.lower = compiled.lower  # As of a jitted function, for what it costs.
        return mapped

    def put(self, tree: Any) -> Any:
        """Host arrays, alike in every process -> the same on every device, or shares of them."""

        def make(x):
            x = np.array(x)
            sharding = self._share(x) if self.how == "fsdp" else self._replicated
            return jax.make_array_from_process_local_data(sharding, x, x.shape)

        return jax.tree.map(make, tree)

    def _share(self, x: jax.Array | np.ndarray) -> NamedSharding:
        """Of a large array: split along the longest side that divides by the devices."""
        sides = [(n, i) for i, n in enumerate(x.shape) if n % self.count == 0]
        if x.size < SMALL or not sides:
            return self._replicated
        return NamedSharding(self._mesh, P(*[None] * max(sides)[1], AXIS))

    def split(self, batch: Mapping[str, np.ndarray], parts: int = 1) -> dict[str, Any]:
        """This process's rows of a batch -> rows spread over its devices.

        Each device has an equal share of every part, which is a run of the rows that come in.
        """
        batch = {k: x.reshape(parts, -1, *x.shape[1:]).swapaxes(0, 1) for k, x in batch.items()}
        batch = {k: x.reshape(-1, *x.shape[2:]) for k, x in batch.items()}
        if self.how == "pmap":
            return {k: x.reshape(self.local_count, -1, *x.shape[1:]) for k, x in batch.items()}
        return {k: jax.make_array_from_process_local_data(self._split, x) for k, x in batch.items()}


def total(tree: Any, axis_name: str | None) -> Any:
    """The sums over all devices of what each has."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def gather(tree: Any, axis_name: str | None) -> tuple[Any, jax.Array]:
    """The rows of all devices, in order, and the places [b] int32 of this device's b among them.

    Gradients by gathered rows flow back to the device each row came from, summed over the devices.
    """
    rows = jax.tree.leaves(tree)[0].shape[0]
    anchors = jnp.arange(rows, dtype=jnp.int32)
    if axis_name is None:
        return tree, anchors
    together = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), tree)
    return together, anchors + rows * jax.lax.axis_index(axis_name)


def _mesh(devices: list[jax.Device]) -> jax.sharding.Mesh:
    auto = (jax.sharding.AxisType.Auto,)  # The default in newer JAX, Explicit, fits no pmap.
    # Not `jax.make_mesh`: it refuses GPUs of several machines, and orders TPUs its own way.
    return jax.sharding.Mesh(np.array(devices), (AXIS,), axis_types=auto)


def host() -> jax.Device | None:
    """The CPU beside the devices; None, JAX's default device, where JAX was told to use none."""
    with contextlib.suppress(RuntimeError):
        return jax.local_devices(backend="cpu")[0]
    return None


def to_host(tree: Any) -> Any:
    """Device arrays, replicated or shared -> whole NumPy copies that no donation can touch."""

    def whole(x):
        one = x.is_fully_replicated
        return np.array(x.addressable_data(0) if one else process_allgather(x, tiled=True))

    return jax.tree.map(whole, tree)
