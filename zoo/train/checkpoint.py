"""Checkpoints by Orbax: the whole state, the step, and a JSON: whose run, and the best so far.

Saved asynchronously from a host copy, so training goes on. Batches depend on (seed, step) alone:
no iterator is saved. The latest two are kept, as a file may be unreadable, and the best by score.
"""

import contextlib
import logging
import os
import pathlib
from typing import Any, Literal

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy
from orbax.checkpoint import checkpoint_managers as policies

from zoo.data.checks import explained
from zoo.data.images import File
from zoo.train.state import TrainState

_ORBAX = logging.getLogger("absl")


def _flat(tree: Any) -> dict[str, Any]:
    """A pytree as {"params/down_0/conv/kernel": array}, its leaves in order."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


class Checkpoints:
    """The folder `checkpoints` of a workdir."""

    def __init__(self, workdir: File, *, read_only: bool = False):
        self.folder = pathlib.Path(workdir).absolute() / "checkpoints"
        self._unreadable = self.folder.parent / "unreadable"
        self._keep = policies.AnyPreservationPolicy([policies.LatestN(2)])
        how = {"preservation_policy": self._keep, "read_only": read_only}
        if not read_only:
            with self._written():  # Orbax would go on for minutes where a file is in the way.
                self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as quiet:
            # Orbax would warn that a folder it was told to open read-only is read-only.
            quiet.callback(_ORBAX.setLevel, _ORBAX.level)
            _ORBAX.setLevel(logging.ERROR)
            options, names = ocp.CheckpointManagerOptions(**how), ("state", "meta")
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=names)

    def steps(self) -> list[int]:
        """The steps that were saved whole, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Starts to write a host copy of a state; a save still under way is waited for.

        `meta` is JSON; its "best" is None or {"step": ..., "score": ...}, the step to keep. Raises
        ValueError where the save before failed, such as on a full disk.
        """
        if meta["best"]:
            # Not Orbax's BestN: it reads a file of scores from every step when a folder is opened,
            # so that one damaged file would make all the others unreadable.
            best = policies.CustomSteps([meta["best"]["step"]])
            self._keep.policies = [policies.LatestN(2), best]
        items = {"state": ocp.args.StandardSave(_flat(state)), "meta": ocp.args.JsonSave(meta)}
        with self._written():
            self._manager.save(int(state.step), args=ocp.args.Composite(**items), force=True)

    def _written(self):
        hint = "make room for them, or choose another --workdir"
        return explained(
            f"The checkpoints in {self.folder} cannot be written", hint, (OSError, ValueError)
        )

    def read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays by flat name, and the meta, of a step. Raises whatever Orbax does."""
        items = {"state": ocp.args.StandardRestore(), "meta": ocp.args.JsonRestore()}
        read = self._manager.restore(step, args=ocp.args.Composite(**items))
        return {k: np.asarray(v) for k, v in read.state.items()}, read.meta

    def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any], list[str]] | None:
        """The latest readable state, on the host, its meta, and a line for each step passed over.

        None where none was saved. A step whose files cannot be read is moved to `unreadable/`
        beside the folder, nothing is deleted, and the one before is tried. `target` is a state of
        the right structure, shapes and dtypes. Raises ValueError for a checkpoint of another model,
        and where steps were saved and none can be read, now or before.
        """
        passed = []
        for step in reversed(self.steps()):
            try:
                arrays, meta = self.read(step)
            except Exception as error:  # noqa: BLE001  Corruption raises a dozen types.
                passed.append(f"step {step} cannot be read ({_first_line(error)})")
                self._set_aside(step)
                continue
            return _fill(target, arrays, self.folder / str(step)), meta, passed
        if passed or (self._unreadable.is_dir() and any(self._unreadable.iterdir())):
            what = f"No checkpoint in {self.folder} can be read: {'; '.join(passed) or 'as before'}"
            hint = "launch with another --workdir to begin anew"
            raise ValueError(f"{what}. They now lie in {self._unreadable}; {hint}.")
        return None

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            self._unreadable.mkdir(exist_ok=True)
            taken = len(list(self._unreadable.glob(f"{step}*")))
            name = f"{step}-{taken}" if taken else str(step)
            (self.folder / str(step)).rename(self._unreadable / name)
        self._manager.reload()

    def wait(self) -> None:
        """Until the save under way is whole. Raises ValueError where it failed."""
        with self._written():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the threads."""
        self._manager.close()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def _fill(target: Any, arrays: dict[str, np.ndarray], where: os.PathLike) -> Any:
    """`target` with the arrays of a checkpoint in its leaves; every name, shape and dtype fits."""
    leaves = _flat(target)
    here, there = ({n: f"{x.dtype}{list(x.shape)}" for n, x in t.items()} for t in (leaves, arrays))
    for name in sorted(here.keys() | there.keys()):
        ours, saved = here.get(name, "nothing"), there.get(name, "nothing")
        if ours != saved:
            problem = f"{where} does not fit the model: {name} is {saved} there and {ours} here"
            raise ValueError(f"{problem}; use its own experiment, another --workdir or init_from.")
    return jax.tree.unflatten(jax.tree.structure(target), [arrays[name] for name in leaves])


def load_variables(workdir: File, *, which: Literal["best", "latest"] = "best") -> tuple[dict, int]:
    """The variables to predict with, from a workdir: averaged parameters where it keeps them.

    Returns {"params": ..., "batch_stats": ... where the model has them} of NumPy arrays, and the
    step. Raises ValueError where nothing was saved, or the files cannot be read.
    """
    if which not in ("best", "latest"):
        raise ValueError(f"which must be 'best' or 'latest'; got {which!r}.")
    folder = pathlib.Path(workdir) / "checkpoints"
    # Orbax may not open, read-only, a folder that is not there.
    checkpoints = Checkpoints(workdir, read_only=True) if folder.is_dir() else None
    if checkpoints is None or not checkpoints.steps():
        raise ValueError(f"{workdir} holds no checkpoints; train there first.")
    step = checkpoints.steps()[-1]
    try:
        arrays, meta = checkpoints.read(step)
        if which == "best" and meta["best"] and meta["best"]["step"] != step:
            step = meta["best"]["step"]
            arrays, _ = checkpoints.read(step)
    except Exception as error:
        problem = f"{folder / str(step)} cannot be read ({_first_line(error)})"
        hint = "launch the run again: it goes on from the last checkpoint that can be read"
        if step != checkpoints.steps()[-1]:
            hint = "the latest may still be read: --step latest of evaluate and zoo"
        raise ValueError(f"{problem}; {hint}.") from error
    finally:
        checkpoints.close()
    tree = flax.traverse_util.unflatten_dict(arrays, sep="/")
    stats = {"batch_stats": tree["batch_stats"]} if "batch_stats" in tree else {}
    return {"params": tree.get("ema", tree["params"]), **stats}, step


def check_fits(target: Any, found: Any, where: File) -> None:
    """Raises ValueError naming the first tensor of `found` that is not as in `target`."""
    _fill(target, _flat(found), where)


def adopt(variables: dict[str, Any], source: File, model: Any) -> tuple[dict[str, Any], str]:
    """Fresh `variables` with the tensors of another run's workdir or export, or a file of weights.

    What it lacks stays as it is, and what it has beyond them is left out; so are, where classes are
    more or fewer, the tensors that count them. The line returned tells all. A `model` that can
    start from a file of others has `pretrained(file, params)`. Raises ValueError for the first
    tensor of another shape, for no common name, and for no run or weights at `source`.
    """
    where, found = source, _exported(source)
    if str(source).endswith((".pth", ".pt", ".safetensors")):
        if not found and not hasattr(model, "pretrained"):
            takes = "takes a workdir or an export, no weights of others"
            raise ValueError(f"{type(model).__name__} {takes}; got init_from={source}.")
        found = found or {"params": model.pretrained(source, variables["params"])}
    else:
        with explained(f"init_from={source}", "give a workdir, .safetensors or .pth", ValueError):
            found, step = load_variables(source)
        where = pathlib.Path(source) / "checkpoints" / str(step)
    fresh, found = _flat(variables), _flat(found)
    kept = {name: x for name, x in found.items() if name in fresh}
    # Sides that differ, of each tensor; all are of one number of classes there and the one here.
    sides = {n: zip(x.shape, fresh[n].shape, strict=False) for n, x in kept.items()}
    apart = {n: {(there, here) for there, here in s if there != here} for n, s in sides.items()}
    classes = set().union(*apart.values())
    recounted = len(classes) == 1 and {b for _, b in classes} == {getattr(model, "num_classes", 0)}
    # Where only what goes in differs, it is another width, which happens to be that number.
    if recounted and all(found[n].shape[-1] != fresh[n].shape[-1] for n in apart if apart[n]):
        kept = {name: x for name, x in kept.items() if not apart[name]}
    line = f"Starting from {where}: {len(kept)} of {len(fresh)} tensors"
    line += "".join(f", all but the head: {a} classes there, {b} here" for a, b in classes)
    for words, names in (("new are", fresh), ("left out are", found)):
        rest = sorted(names.keys() - kept)
        line += f"; {words} {', '.join(rest)}" if rest else ""
    return _fill(variables, {**fresh, **kept} if kept else found, where), line


def _exported(source: File) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file, if `zoo.export` wrote it; else none."""
    if not str(source).endswith(".safetensors"):
        return {}
    with explained(f"{source} cannot be read as weights", "export or fetch it again"):
        tensors = safetensors.numpy.load_file(source)
    return tensors if any(name.startswith("params/") for name in tensors) else {}
