"""Trained models side by side: what each costs and what it scores, from their workdirs.

python -m experiments.compare runs/unet_digits runs/tiramisu_digits [--split test --out DIR]

Prints Markdown tables and writes them as compare.md and as the page compare.html, beside
compare.json and compare.png. FLOPs and memory are of the compiled programs; times are taken here
and now, a training step of each model in turn; scores are of the best checkpoint, measured here
too. Runs that differ by their seed alone share a row: mean ± sample standard deviation.
"""

import argparse
import dataclasses
import datetime
import json
import math
import os
import pathlib
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

import experiments.datasets  # noqa: F401  Runs are of data sets found by name.
from experiments import launch, plan
from experiments.environment import record
from experiments.oracle import oracle
from experiments.report import comparison, facts, page
from zoo.data.config import Data
from zoo.data.images import write_atomically
from zoo.train import checkpoint, config, logs
from zoo.train.parallel import Layout, to_host
from zoo.train.process import set_up_process
from zoo.train.run import Run

COLUMNS = {  # Heading and format of what is averaged over the seeds.
    **comparison.COSTS,
    "steps": ("steps", "{:.0f}"),
    "minutes": ("minutes trained", "{:.1f}"),
}

ALIKE = {  # What rows must share, and what is wrong where they do not.
    "data": "are of different data: compare runs of one, or set --split",
    "scored_at": "have pictures scored at different sizes, by data.size and data.score_at: "
    "compare runs that are scored alike",
    "hash": "have other pictures or labels in that split, by their hash: compare runs whose "
    "data.path and data.options lead to the same",
}

COST = (
    "GFLOP are of one input's way forward, MiB and s of a step, at the batch and the height x "
    "width that the model is trained on."
)
SPREAD = (
    "± is the sample standard deviation (n - 1) over the n seeds of the row; costs and scores of "
    "classes are means over them."
)


def measure(workdirs: Sequence[pathlib.Path], split: str | None, rounds: int) -> list[dict]:
    """Facts and scores of each workdir, in order. ValueError where they share no data or score."""
    layout, rows, programs = Layout("jit"), [], []
    for workdir in workdirs:
        name, experiment, info = config.read_experiment(workdir)
        if name in launch.names():
            plan.check_evaluated(launch.load(name), experiment, workdir)
        experiment = dataclasses.replace(experiment, split=split or experiment.split)
        run = Run(config.as_trained(experiment, info), layout)
        blank, key = run.blank_inputs(), jax.random.key(0)
        splits = facts.splits(run)
        row = {
            "name": name,
            "workdir": str(workdir),
            "seed": experiment.seed,
            "data": f"{info.name} {experiment.split}",
            "scored_at": scored_at(experiment.data, run.task.sums is not None),
            "hash": next(digest for split, *_, digest in splits if split == experiment.split),
            "splits": splits,
            "batch": experiment.data.batch_size,
            "input": "x".join(map(str, blank[0].shape[1:3])),
            "classes": list(info.class_names),
        }
        check_alike([*rows, row])
        variables, row["step"] = checkpoint.load_variables(workdir)
        checkpoint.check_fits(
            jax.eval_shape(experiment.model.init, key, *blank), variables, workdir
        )
        results = run.task.results(run, layout.put(variables), experiment.split)
        row["scores"], row["headline"] = run.task.scores(results), run.task.headline
        check_headline([*rows, row])
        row["parameters"] = sum(x.size for x in jax.tree.leaves(variables["params"]))
        # Before XLA rewrites it: the same number on every device.
        forward = jax.jit(experiment.model.apply).lower(variables, *blank)
        row["gflops"] = forward.cost_analysis()["flops"] / 1e9
        if (stride := getattr(experiment.model, "output_stride", 1)) > 1:
            row["oracle"] = oracle(run, stride)

        batch, state = run.split(run.train_items()[0]), to_host(run.initial_state())
        program = run.train_step.lower(layout.put(state), batch).compile()
        row["memory_mib"] = program.memory_analysis().temp_size_in_bytes / 2**20
        state, _ = jax.block_until_ready(program(layout.put(state), batch))
        programs.append([program, state, batch])
        records = logs.read_metrics(workdir)
        # Not the experiment's, which the run may have stopped before.
        row["steps"] = max((r["step"] for r in records), default=experiment.steps)
        speeds = [r["images_per_second"] for r in records if "images_per_second" in r]
        speeds = speeds or [math.nan]  # A run of one dispatch logs no speed.
        row["minutes"] = row["steps"] * row["batch"] / statistics.median(speeds) / 60
        rows.append(row)
    times = [[] for _ in rows]
    for _ in range(rounds):
        for entry, seconds in zip(programs, times, strict=True):
            program, state, batch = entry
            start = time.perf_counter()
            entry[1], _ = jax.block_until_ready(program(state, batch))
            seconds.append(time.perf_counter() - start)
    for row, seconds in zip(rows, times, strict=True):
        row["step_seconds"] = statistics.median(seconds)
    return rows


def scored_at(data: Data, labels: bool) -> str:
    """The size at which pictures are scored: of maps of labels, or as an encoder sees them."""
    own = data.size is None or (labels and data.score_at == "source")
    return "their own size" if own else "{}x{} px".format(*data.size)


def check_alike(rows: Sequence[dict]) -> None:
    """Raises ValueError where the last run is scored on other pixels than the first."""
    first, last = rows[0], rows[-1]
    for key, problem in ALIKE.items():
        if first[key] != last[key]:
            both = f"{first['workdir']} ({first[key]}) and {last['workdir']} ({last[key]})"
            raise ValueError(f"{both} {problem}.")


def check_headline(rows: Sequence[dict]) -> None:
    """Raises ValueError where the last run lacks the first one's headline, which rows show."""
    first, last = rows[0], rows[-1]
    if (score := first["headline"]) not in last["scores"]:
        problem = f"{last['workdir']} has no {score}, the headline of {first['workdir']}"
        raise ValueError(f"{problem}: compare runs of one task.")


def group(rows: list[dict]) -> list[list[dict]]:
    """Runs of one experiment that differ by their seed alone, together.

    Each may start from a run of its own, as FCN-16s from its seed's FCN-32s, and have its data in a
    folder of its own. Where a seed is there twice, these two tell the runs apart, or else it is by
    itself: one seed on two layouts is no two seeds.
    """
    alike: dict[tuple, list[tuple]] = {}
    for row in rows:
        _, experiment, _ = config.read_experiment(row["workdir"])
        start, data = experiment.init_from, experiment.data
        apart = {"init_from": start and "a run", "data": dataclasses.replace(data, path=None)}
        same = config.to_dict(dataclasses.replace(experiment, seed=0, **apart))
        key = row["name"], json.dumps(same, sort_keys=True)
        alike.setdefault(key, []).append(((start, data.path), row))
    groups: dict[tuple, list[dict]] = {}
    for key, runs in alike.items():
        twice = len({row["seed"] for _, row in runs}) < len(runs)
        for origin, row in runs:
            again = sum((o, r["seed"]) == (origin, row["seed"]) for o, r in runs) > 1
            place = key, origin if twice else None, row["workdir"] if again else None
            groups.setdefault(place, []).append(row)
    return list(groups.values())


def spread(values: Sequence[float | None], form: str) -> str:
    """Mean ± sample standard deviation (n - 1), which one value has not. None is nan, which no
    mean hides."""
    values = [math.nan if v is None else v for v in values]
    mean, deviation = statistics.fmean(values), comparison.deviation(values)
    return form.format(mean) + ("" if math.isnan(deviation) else f" ± {form.format(deviation)}")


def tables(groups: list[list[dict]]) -> tuple[list[page.Table], str]:
    """A row for each group, their scores of every class where there are such, and a note.

    The score of all rows is the first one's headline.
    """
    first = groups[0][0]
    oracles = any("oracle" in g[0] for g in groups)
    head = ["model", first["headline"], *(["its oracle"] if oracles else []), "seeds", "trained on"]
    head += [title for title, _ in COLUMNS.values()]
    lines, body = [], []
    for runs in groups:
        seeds = ", ".join(str(r["seed"]) for r in runs)
        score = spread([r["scores"][first["headline"]] for r in runs], "{:.3f}")
        known = [f"{runs[0]['oracle']:.3f}" if "oracle" in runs[0] else "1"] if oracles else []
        costs = [form.format(np.mean([r[key] for r in runs])) for key, (_, form) in COLUMNS.items()]
        trained_on = f"{runs[0]['batch']} x {runs[0]['input']}"
        lines.append([runs[0]["name"], score, *known, seeds, trained_on, *costs])
        if "iou" in first["scores"]:
            means = np.mean([r["scores"]["iou"] for r in runs], 0)
            body.append([runs[0]["name"], *(f"{100 * x:.0f}" for x in means)])
    parts = [page.Table("Scores and costs", head, lines)]
    if body:
        parts.append(page.Table("Classes", ["IoU, per cent", *first["classes"]], body))
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    where = f"{Layout('jit').devices[0].device_kind}, {os.cpu_count()} cores, load {load}"
    what = f"Scored on {first['data']}, pictures at {first['scored_at']}. {COST}"
    day = datetime.date.today().isoformat()
    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    note = f"{what} {versions}, {where}, {day}."
    if any(len(runs) > 1 for runs in groups):
        note += f" {SPREAD}"
    return parts, note


def markdown(parts: Sequence[page.Table], note: str) -> str:
    """The tables and the note below them."""
    texts = []
    for table in parts:
        ruled = [table.head, ["---"] * len(table.head), *table.rows]
        texts.append("\n".join(f"| {' | '.join(line)} |" for line in ruled))
    return "\n\n".join([*texts, note]) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path, metavar="WORKDIR")
    parser.add_argument("--split", help="what to score; default: that of the experiments")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each; default: 5")
    # A shell leaves the ~ of --out=~/x as it is.
    home = {"type": lambda text: pathlib.Path(text).expanduser()}
    parser.add_argument("--out", **home, default=pathlib.Path("runs/compare"))
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1; got {options.rounds}")
    set_up_process()
    try:
        places = [workdir.resolve() for workdir in options.workdirs]
        if twice := [workdir for workdir in places if places.count(workdir) > 1]:
            raise ValueError(f"{twice[0]} is given twice; a run stands for one seed.")
        if options.out.exists() and not options.out.is_dir():
            raise ValueError(f"{options.out} is a file; choose another --out.")
        rows = measure(options.workdirs, options.split, options.rounds)
        groups = group(rows)
        parts, note = tables(groups)
        text = markdown(parts, note)
        options.out.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out / "compare.md", lambda file: file.write(text.encode()))
        measured = json.dumps(logs.plain(rows), indent=1, allow_nan=False).encode()
        write_atomically(options.out / "compare.json", lambda file: file.write(measured))
        comparison.draw(groups, options.out / "compare.png")
        given = sys.argv[1:] if argv is None else argv
        command = shlex.join(["python", "-m", "experiments.compare", *given])
        used = [list(line) for line in dict.fromkeys(tuple(x) for r in rows for x in r["splits"])]
        _, environment = facts.recorded(record(None)[1])
        origin = [page.Table("Data", facts.SPLITS, used), environment]
        comparison.write(parts, note, command, origin, options.out / "compare.png")
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; nothing was measured to the end.", file=sys.stderr)
        return 130
    print(text)
    print(f"Also in {options.out}: compare.html, compare.md, compare.json, compare.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
