"""Plans a run on a folder of one's own: what it holds decides sizes, batch, depth and steps.

A plan is a list of settings with reasons, applied before the user's own `--set`, which wins and is
planned around. It is made once: a workdir that has begun goes on as its experiment.json says.
"""

import contextlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from experiments import overrides
from experiments.datasets import _understood
from experiments.folders.splits import SHARES, hold_out
from zoo.data.builders import open_builder
from zoo.train import config
from zoo.train.config import Experiment

FILE = "dataset.json"
# Of its facts; what follows from them counts.
WORDS = ("folder", "layout", "rule", "split_rule", "shapes")
LOWEST = 8  # Pixels of a side that the lowest level of a U-Net sees at least.
EPOCHS = 60  # Times each picture of an embedding is seen, within FEWEST steps and the most.
FEWEST = 200


class Most(NamedTuple):
    """What a backend allows: 20 pictures in minutes, many in an evening."""

    crop: int  # Pixels of a side.
    picture: int  # The same of an embedded picture.
    batch: int  # Crops.
    epochs: int  # Times each pixel of a segmentation is seen.
    steps: int


MOST = {"cpu": Most(256, 64, 4, 15, 3000)}
MOST_ELSEWHERE = Most(512, 128, 8, 60, 20_000)
# Bytes a pixel and a feature of `width`: XLA's memory_analysis on CPU tells 104 and 16 of the
# temporaries of U-Net's gradient and of its logits, at widths of 16 and of 32 alike.
TRAINED, SCORED = 110, 20
EMBEDDED = 42  # Likewise of ResidualEncoder's gradient: 40.
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Plan(NamedTuple):
    """What was decided, and from what."""

    settings: list[tuple[str, Any, str]]  # Field, value, reason.
    facts: dict[str, Any]  # Of the data, JSON.
    told: list[str]  # The same for people.


class Settings:
    """Collects settings; a field that is `fixed` keeps the experiment's value and is none."""

    def __init__(self, experiment: Experiment, fixed: Callable[[str], bool]):
        self.made: list[tuple[str, Any, str]] = []
        self._values, self._fixed = flatten_dict(config.to_dict(experiment), sep="."), fixed

    def __call__(self, field: str, value: Any, reason: str) -> Any:
        """The value that the field gets."""
        if self._fixed(field):
            return self._values.get(field, value)
        self.made.append((field, value, reason))
        return value


def planned(
    module: ModuleType, given: Sequence[str], workdir: Path
) -> tuple[Experiment, dict[str, bytes], list[str]]:
    """The experiment of a module, files for its workdir, and lines to tell.

    Without a `plan` in the module that is `experiment()` with the settings `given`. Raises
    ValueError where the data of a run that goes on are no longer what they were.
    """
    experiment = overrides.apply(module.experiment(), given)
    if not hasattr(module, "plan"):
        return experiment, {}, []
    begun = (workdir / config.FILE).is_file()
    path = experiment.data.path
    if path and workdir.resolve().is_relative_to(Path(path).expanduser().resolve()):
        what = f"The workdir {workdir} lies in the folder of data, {path}, and its pictures would"
        raise ValueError(f"{what} be taken for more; choose another --workdir.")
    if begun:
        experiment = overrides.apply(config.read_experiment(workdir)[1], given)
    by_hand = {text.partition("=")[0].strip() for text in given}
    by_hand |= {field.replace("data.", "data.options.", 1) for field in by_hand}  # Its short form.
    plan: Plan = module.plan(experiment, lambda field: begun or field in by_hand)
    facts = json.loads(json.dumps(plan.facts))
    if begun:
        _check_same(workdir, facts)
        return experiment, {}, [*plan.told, f"goes on as planned, see {workdir / config.FILE}"]
    texts = [f"{field}={value}" for field, value, _ in plan.settings]
    experiment = overrides.apply(module.experiment(), [*texts, *given])
    width = max(map(len, texts), default=0)
    reasons = (reason for *_, reason in plan.settings)
    lines = [f"  {text:{width}}  {why}" for text, why in zip(texts, reasons, strict=True)]
    files = {FILE: json.dumps(facts, indent=1).encode()}
    return experiment, files, [*plan.told, "planned (--set wins):", *lines]


def check_evaluated(module: ModuleType, experiment: Experiment, workdir: Path) -> None:
    """Raises ValueError where a run's own data are not what it was trained on.

    Of splits that have changed it would score trained pictures. Another folder is given on purpose.
    """
    own = config.read_experiment(workdir)[1].data.path
    paths = {path and Path(path).expanduser().resolve() for path in (own, experiment.data.path)}
    if hasattr(module, "plan") and len(paths) == 1:
        facts = module.plan(experiment, lambda field: True).facts
        _check_same(workdir, json.loads(json.dumps(facts)))


def _check_same(workdir: Path, facts: dict[str, Any]) -> None:
    """Raises ValueError where a workdir's dataset.json records other facts, `WORDS` aside."""
    try:
        old = json.loads((workdir / FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{workdir / FILE} cannot be read ({error}); restore it.") from error
    if changed := [k for k in facts if k not in WORDS and facts[k] != old.get(k)]:
        problem = f"{facts['folder']} is not what {workdir} was trained on: {', '.join(changed)}"
        raise ValueError(f"{problem} changed; undo that, or train in another --workdir.")


def _open(experiment: Experiment, **options: Any):
    data = experiment.data
    if data.path is None:
        raise ValueError("The folder is not given; --set data.path=DIR.")
    return open_builder(data.name, path=data.path, options={**data.options, **options})


def segmentation(experiment: Experiment, fixed: Callable[[str], bool]) -> Plan:
    """Of a U-Net; ValueError for a folder that cannot be understood."""
    facts = _open(experiment).understood
    settle, backend = Settings(experiment, fixed), jax.default_backend()
    most = MOST.get(backend, MOST_ELSEWHERE)
    median, largest = (np.array(facts["sizes"][k]) for k in ("median", "largest"))
    train = len(facts["splits"]["train"])
    classes = len(facts["classes"])
    settle("model.num_classes", classes, f"the masks hold {classes} classes")
    _settle_channels(settle, facts["channels"])
    width, budget, devices = experiment.model.width, _memory(), jax.device_count()

    spacing = facts["spacing"]
    fits = budget / (SCORED * width * devices)  # Pixels of one picture a device, when scored.
    if math.prod(largest) > fits or fixed("data.size"):
        share = math.sqrt(min(1, fits / math.prod(largest)))
        size = [int(side * share) for side in largest]
        why = f"the largest picture, {_px(largest)}, does not fit {_gib(budget)} whole"
        if gap := spacing["gap"]:
            why += f"; {gap:g} px between objects become {round(gap * share, 1):g}"
        why += _shaped(facts)
        largest = np.array(settle("data.size", tuple(size), why) or largest)
        median = np.minimum(median, largest)
    share = math.sqrt(math.prod(largest) / math.prod(facts["sizes"]["largest"]))
    lie = [n and n * share for n in (spacing["object"], spacing["gap"])]
    depth = settle("model.depth", *_depth(experiment.model, min(*median, most.crop), *lie))
    crop = tuple(int(max(1, min(s, most.crop) // 2**depth) * 2**depth) for s in median)
    why = (
        f"the median picture, {_px(median)}, up to {most.crop} on {backend}, in steps of {2**depth}"
    )
    crop = settle("data.crop", crop, why) or median
    pixels = math.prod(crop)
    need = width * max(TRAINED * pixels, SCORED * math.prod(largest))
    batch = int(min(most.batch, max(1, train // 2), budget / need)) // devices * devices or devices
    why = f"{most.batch} on {backend}, but no more than half of {train} pictures, or one,"
    why += f" and than {_gib(budget)} hold"
    why += f" ({_gib(need * batch)} by estimate); in steps of {devices} device(s)"
    batch = settle("data.batch_size", batch, why)
    patches = train * max(1.0, math.prod(median) / pixels)
    why = f"{patches:.0f} crops of {_px(crop)} px cover the {train} training pictures"
    _settle_steps(settle, patches, batch, most.epochs, most.steps, why)
    return Plan(settle.made, facts, _understood.lines(facts))


def _depth(model: Any, side: float, extent: float | None, gap: float | None) -> tuple[int, str]:
    """The least depth whose field spans two objects' length, or the most that fits, and why."""
    fields = {n: 2 * model.clone(depth=n).halo + 1 for n in range(1, 5) if side // 2**n >= LOWEST}
    fields = fields or {1: 2 * model.clone(depth=1).halo + 1}
    far = 2 * (extent or math.inf)
    depth = next((n for n, field in fields.items() if field >= far), max(fields))
    why = f"{side:g} px halved {depth}x leave {side // 2**depth:g}; {LOWEST} at least, 4x at most"
    if not extent:
        return depth, why
    lie = f"nine of ten objects are within {round(extent, 1):g} px"
    lie += f" and have {round(gap, 1):g} px between them" if gap else ""
    reach = "spans two objects' length" if fields[depth] >= far else "is the widest they allow"
    return depth, f"{lie}: a field of {fields[depth]} px {reach}; {why}"


def embedding(experiment: Experiment, fixed: Callable[[str], bool]) -> Plan:
    """Of an encoder; ValueError for a folder without classes, and too few of them or of pictures.

    Classes are held out where that leaves every split two at least.
    """
    settle = Settings(experiment, fixed)
    every = _open(experiment, split_by="example", validation_share=0, test_share=0)
    class_of, looks, options, split = every.class_of(), every.looks, {}, "as the folders give it"
    if not every.given:
        enough, share, why = hold_out(class_of, every.groups, every.split_seed)
        options["split_by"] = settle("data.options.split_by", "class" if enough else "example", why)
        if not enough:
            few = f"{len(class_of)} pictures are split in two, not in three"
            options["test_share"] = settle("data.options.test_share", 0.0, few)
        if share > SHARES[0]:
            few = "so that pictures of one class and of others meet in validation"
            options["validation_share"] = settle("data.options.validation_share", share, few)
        together = len({*every.groups.values()})
        split = (
            f"by a hash of names, {len(class_of)} pictures in {together} groups that stay together"
        )
    options["channels"] = _settle_channels(settle, looks["channels"])
    builder = _open(experiment, **options)

    backend, devices, median = jax.default_backend(), jax.device_count(), looks["sizes"]["median"]
    most = MOST.get(backend, MOST_ELSEWHERE)
    size = tuple(max(1, round(float(s * min(1, most.picture / max(median))))) for s in median)
    why = f"the median picture, {_px(median)}, with sides up to {most.picture} on {backend}"
    why += _shaped(looks)
    size = settle("data.size", size, why) or median
    counts = np.unique([f.parent.name for _, f in builder.parts["train"]], return_counts=True)[1]
    each = int(np.clip(np.median(counts), 2, 4))
    why = f"a training class has {np.median(counts):g} pictures in the median; 2 to 4"
    each = settle("task.images_per_class", each, why)
    budget, need = _memory(), EMBEDDED * experiment.model.width * math.prod(size) * each
    most_classes = int(max(min(len(counts), 16, budget / need), 2))
    fitting = (n for n in range(most_classes, 1, -1) if each * n % devices == 0)
    several = next(fitting, devices)  # Too many classes, which the launch refuses in words.
    why = f"{each} pictures of {several} of the {len(counts)} training classes, 16 at most, and no"
    why += f" more than {_gib(budget)} hold ({_gib(need * several)} by estimate)"
    batch = settle("data.batch_size", each * several, why)
    pictures = int(counts.sum())
    _settle_steps(settle, pictures, batch, EPOCHS, most.steps, f"{pictures} training pictures")
    splits = {s: [name for name, _ in part] for s, part in builder.parts.items() if part}
    in_class = Counter(class_of.values())
    facts = {
        "folder": str(builder.path),
        "layout": f"a folder of pictures for each class{'; ' * bool(every.aside)}{every.aside}",
        "pictures": len(class_of),
        "sizes": looks["sizes"],
        "shapes": looks["shapes"],
        "channels": looks["channels"],
        "classes": [{"name": name, "pictures": in_class[name]} for name in builder.classes],
        "split_rule": split,
        "splits": splits,
    }
    counted = ", ".join(f"{s} {len(some)}" for s, some in splits.items())
    told = f"{builder.path}: {_understood.described(facts)}; {facts['layout']}"
    named = f"{len(in_class)} classes of {min(in_class.values())} to {max(in_class.values())}"
    return Plan(settle.made, facts, [f"{told}; {named} pictures", f"split {split}: {counted}"])


def _settle_channels(settle: Settings, channels: int) -> int:
    """Those of the pictures, so that any other folder is read in as many."""
    why = f"pictures are {'grey' if channels == 1 else 'in colour'}"
    return settle("data.options.channels", channels, why)


def _settle_steps(
    settle: Settings, items: float, batch: int, epochs: int, most: int, why: str
) -> None:
    """Steps, and how often the run looks at itself."""
    wanted = math.ceil(epochs * items / batch)
    steps = min(max(wanted, FEWEST), most)
    why = f"{why}; each {epochs} times in batches of {batch} is {wanted}; {FEWEST} to {most}"
    steps = settle("steps", steps, why)
    often = max(1, steps // 8)
    for field in ("eval_every", "checkpoint_every"):
        settle(field, often, "an eighth of the steps")
    settle("log_every", max(1, min(20, steps // 20)), "20, or a twentieth of the steps")
    settle("optimizer.warmup_steps", steps // 20, "a twentieth of the steps")


def _memory() -> float:
    """Bytes that a batch may take: half of an accelerator's memory, a quarter of the host's."""
    stats = jax.numpy.zeros(()).device.memory_stats() or {}  # None on CPU.
    if limit := stats.get("bytes_limit"):
        return limit / 2
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in CGROUPS:  # A container's own; no file, or "max", where there is none.
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(Path(file).read_text()))
    return min(sizes) / 4


def _shaped(facts: dict[str, Any]) -> str:
    """What one size does to pictures that stand and others that lie, to end a reason."""
    return f"; {facts['shapes']}, and all get this shape" * bool(facts["shapes"])


def _px(size: Sequence[float]) -> str:
    return "x".join(f"{side:g}" for side in reversed(list(size)))


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
