"""Trains a grid of runs, and tabulates mean and deviation over seeds.

python -m experiments.launch NAME --sweep model.width=8,16 --sweep seed=0..4

Each run has a workdir of its own, runs/NAME-sweep/FIELDS. Launched again, the sweep leaves alone
what is finished and goes on with the rest. All run in one process: accelerators take one at a time.
"""

import dataclasses
import itertools
import json
import pathlib
import re
import shlex
import sys
from collections.abc import Sequence
from types import ModuleType

import jax

from experiments import compare, environment, lock, plan
from experiments.report import finish
from zoo.data.images import write_atomically
from zoo.train import config, logs, loop
from zoo.train.config import Experiment
from zoo.train.parallel import Layout
from zoo.train.run import Run

FILE = "sweep.json"  # The scores of what is finished, by folder.


def grid(sweeps: Sequence[str]) -> list[tuple[str, ...]]:
    """The overrides of each run: every combination of one value from every "FIELD=A,B,C".

    "0..4" stands for 0, 1, 2, 3, 4; a tuple is one value in its brackets. Raises ValueError for
    what is not of this form, a field given twice, a value given twice, and the field `split`.
    """
    axes, fields = [], [sweep.partition("=")[0].strip() for sweep in sweeps]
    for field, sweep in zip(fields, sweeps, strict=True):
        values = [v.strip() for v in re.split(r",(?![^(]*\))", sweep.partition("=")[2])]
        if span := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", values[0]):
            first, last = map(int, span.groups())
            values = [*map(str, range(first, last + 1)), *values[1:]]
        if not field or not values or "" in values:
            raise ValueError(f"--sweep takes FIELD=A,B,C or FIELD=0..4; got {sweep!r}.")
        if len(set(values)) < len(values) or fields.count(field) > 1:
            raise ValueError(f"--sweep {sweep} gives a value or a field twice; give it once.")
        if field == "split":
            hint = "set one by --set split=..., or score runs by experiments.compare --split"
            raise ValueError(f"--sweep {sweep}: scores of several splits share no table; {hint}.")
        axes.append([f"{field}={value}" for value in values])
    return list(itertools.product(*axes))


def check(name: str, runs: dict[pathlib.Path, Experiment], layout: Layout) -> str:
    """The score that decides. Raises ValueError for what would stop a run, before any starts."""
    seen = set()
    for workdir, experiment in runs.items():
        config.check_same(workdir, name, experiment)
        text = json.dumps(config.to_dict(dataclasses.replace(experiment, seed=0)))
        if text not in seen:  # Seeds share their shapes.
            run = Run(experiment, layout, trains=False)
            for split in (experiment.data.validation_split, experiment.split):
                run.source(split)
            jax.eval_shape(experiment.model.init, jax.random.key(0), *run.blank_inputs())
        seen.add(text)
    return run.task.headline


def read(root: pathlib.Path) -> dict[str, dict]:
    """What is finished, by folder; ValueError for a damaged file."""
    try:
        return json.loads((root / FILE).read_bytes()) if (root / FILE).exists() else {}
    except ValueError as error:
        hint = "delete it: finished runs are then scored again, not trained"
        raise ValueError(f"{root / FILE} cannot be read ({error}); {hint}.") from error


def sweep(
    name: str, module: ModuleType, sets: Sequence[str], sweeps: Sequence[str],
    root: pathlib.Path, layout: Layout, *, dry_run: bool,
) -> int:  # fmt: skip
    """Trains the grid over a module's experiment with overrides, and compares. Returns the exit
    code: 1 where runs failed, whose errors are shown and which the next launch tries again.

    Of many processes, 0 writes the tables, and only a run that diverged is passed over: another
    error may be one process's own, while the others are still in that run.
    """
    combinations = grid(sweeps)
    points = {re.sub(r"[^\w.=,+()-]", "_", ",".join(p)): p for p in combinations}
    if len(points) < len(combinations):
        raise ValueError("Two runs of the sweep would have folders of one name; sweep them apart.")
    plans = {root / f: plan.planned(module, [*sets, *p], root / f) for f, p in points.items()}
    runs = {workdir: planned[0] for workdir, planned in plans.items()}
    headline, done, failed = check(name, runs, layout), read(root), []
    leads = jax.process_index() == 0

    def finished(workdir: pathlib.Path) -> bool:
        steps = done.get(workdir.name, {}).get("steps")
        # Taken away, it is trained anew.
        return steps == runs[workdir].steps and (workdir / config.FILE).is_file()

    for number, (workdir, experiment) in enumerate(runs.items(), 1):
        line = f"[{number}/{len(runs)}] {workdir}"
        if dry_run or finished(workdir):
            print(line + (": finished" if finished(workdir) else ""))
            continue
        print(line, flush=True)
        try:
            beside = [*plans[workdir][1].items(), environment.record(experiment.seed)]
            hooks = {"beside": beside, "finish": finish.attempt}
            with lock.locked(workdir):
                scores = loop.train(name, experiment, workdir, layout, **hooks)
        except loop.Interrupted as stop:
            print(f"{stop} Launch the same command again to go on.", file=sys.stderr)
            return 128 + stop.signum
        except (ValueError, RuntimeError) as error:  # Diverged, or out of the device's memory.
            if jax.process_count() > 1 and not isinstance(error, loop.Diverged):
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            failed.append(workdir.name)
            continue
        finally:
            jax.clear_caches()  # The programs of this run are of no use to the next.
        numbers = {k: v for k, v in logs.plain(scores).items() if not isinstance(v, list | dict)}
        if leads:
            done |= read(root)  # Another launch of the same sweep may have finished some.
            done[workdir.name] = {"steps": experiment.steps, "scores": numbers}
            text = json.dumps(done, indent=1).encode()
            write_atomically(root / FILE, lambda file, text=text: file.write(text))
    if dry_run:
        return 0
    if not leads:
        return 1 if failed else 0
    done |= read(root)  # Another launch may have had, and ended, what failed here.
    failed = [folder for folder in failed if not finished(root / folder)]
    rows = [
        {"name": name, "workdir": str(w), "fields": points[w.name], "seed": e.seed, **done[w.name]}
        for w, e in runs.items()
        if w.name not in failed
    ]
    if rows:
        text = table(compare.group(rows), headline)
        write_atomically(root / "sweep.md", lambda file: file.write(text.encode()))
        workdirs = (row["workdir"] for row in rows)
        command = shlex.join(["python", "-m", "experiments.compare", *workdirs])
        print(f"\n{text}\nAlso in {root / 'sweep.md'}. Costs and classes: {command}")
    if failed:
        print(f"{len(failed)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def table(groups: list[list[dict]], headline: str) -> str:
    """Markdown, a row for runs that differ by their seed alone: mean ± standard deviation, n.

    The deviation is that of a sample (n - 1); one run has none. A score that a row lacks, as
    boundaries are not always judged, is a dash.
    """
    names = dict.fromkeys(k for runs in groups for r in runs for k in r["scores"])
    scores = [k for k in names if k not in (headline, "step", "split")]
    lines = [["fields", "n", headline, *scores]]
    for runs in groups:
        fields = [f for f in runs[0]["fields"] if not f.startswith("seed=")]
        cells = [
            compare.spread([r["scores"].get(k) for r in runs], "{:.4f}")
            if any(k in r["scores"] for r in runs)
            else "–"
            for k in (headline, *scores)
        ]
        lines.append([", ".join(fields) or "as it is", str(len(runs)), *cells])
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    split = groups[0][0]["scores"]["split"]
    note = (
        "Mean ± sample standard deviation (n - 1) over the n seeds of the row, "
        f"on {split}, at the best checkpoint."
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled) + f"\n\n{note}\n"
