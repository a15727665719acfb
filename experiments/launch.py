"""Trains and evaluates the experiments of this folder. python -m experiments.launch --help"""

import argparse
import difflib
import importlib
import json
import pathlib
import sys

import experiments
from experiments import huge_pages, processes

EPILOG = """examples:
  python -m experiments.launch list
  python -m experiments.launch quickstart
  python -m experiments.launch unet_camvid --set data.path=CamVid --set model.width=32
  python -m experiments.launch quickstart --sweep model.width=8,16 --sweep seed=0..4
  python -m experiments.launch unet_camvid evaluate --set split=given_val --json
A workdir that was stopped goes on when it is launched again."""


def names() -> list[str]:
    """The experiments: every module of this package that defines `experiment`; none is imported."""
    files = (file for folder in experiments.__path__ for file in pathlib.Path(folder).glob("*.py"))
    return sorted(f.stem for f in files if "\ndef experiment(" in f.read_text(encoding="utf-8"))


def load(name: str):
    """The module of an experiment. Raises ValueError naming the nearest where there is none."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}."
        raise ValueError(f"No experiment is called {name!r}; {hint}")
    return importlib.import_module(f"experiments.{name}")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m experiments.launch",
        description="Trains and evaluates an experiment.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("name", help="an experiment, or 'list'")
    p.add_argument("action", nargs="?", choices=("train", "evaluate"), default="train")
    # A shell leaves the ~ of --workdir=~/runs as it is.
    home = {"type": lambda text: pathlib.Path(text).expanduser()}
    p.add_argument("--workdir", **home, help="default: runs/NAME")
    p.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE",
        help="change a field, such as model.width=32; may be given often",
    )  # fmt: skip
    p.add_argument(
        "--sweep", action="append", default=[], metavar="FIELD=A,B,C",
        help="train once for each value (seed=0..4: 0, 1, 2, 3, 4); of several, the whole grid",
    )  # fmt: skip
    p.add_argument(
        "--parallel", choices=("jit", "pmap", "fsdp"), default="jit",
        help="default: jit; fsdp: each device keeps a share of parameters and optimizer state",
    )  # fmt: skip
    p.add_argument(
        "--on-device", action="store_true",
        help="keep the training pictures on each device, which makes the batches (segmentation)",
    )  # fmt: skip
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would happen; train nothing, write no workdir",
    )
    p.add_argument(
        "--overfit", type=int, metavar="N",
        help="check that N examples can be learnt by heart; write no workdir",
    )  # fmt: skip
    p.add_argument(
        "--step", choices=("best", "latest"), help="the checkpoint to evaluate (default: best)"
    )
    p.add_argument("--json", action="store_true", help="evaluate: print one JSON object to stdout")
    p.add_argument("--traceback", action="store_true", help="show where an error came from")
    p.add_argument("--profile", action="store_true", help="trace steps 10-15 for TensorBoard")
    processes.add_options(p)
    return p


def run(args: argparse.Namespace) -> int:
    """What the command line asks for. Returns the exit code."""
    if args.name == "list":
        width = max(map(len, names()))
        for name in names():
            print(f"{name:{width}}  {load(name).__doc__.strip().splitlines()[0]}")
        return 0
    module = load(args.name)
    # After the name is known to be right: these take seconds to import.
    import jax

    import experiments.datasets  # noqa: F401  For `--set data.name=`; an experiment may need none.
    from experiments import checks, environment, lock, overrides, plan, profile
    from experiments.report import finish
    from zoo.train import config, loop
    from zoo.train.parallel import Layout
    from zoo.train.process import set_up_process

    set_up_process()
    workdir = args.workdir or pathlib.Path("runs") / args.name
    layout = Layout(args.parallel)
    check_options(args)
    if args.action == "evaluate":
        # What was trained, not what the file says today, with the few fields that may change.
        experiment = overrides.apply(config.read_experiment(workdir)[1], args.overrides)
        config.check_same(workdir, args.name, experiment, evaluating=True)
        plan.check_evaluated(module, experiment, workdir)
        scores = loop.evaluate(experiment, workdir, layout, which=args.step or "best")
        if jax.process_index() == 0:
            show(scores, as_json=args.json)
        return 0
    if args.sweep:
        from experiments.sweep import sweep

        root = args.workdir or pathlib.Path("runs") / f"{args.name}-sweep"
        fields = (args.overrides, args.sweep)
        return sweep(args.name, module, *fields, root, layout, dry_run=args.dry_run)
    experiment, beside, lines = plan.planned(module, args.overrides, workdir)
    if jax.process_index() == 0:
        print("\n".join(lines), end="\n" * bool(lines))
    hooks = {}
    if args.on_device:
        from experiments.resident import Resident

        hooks["make_run"] = Resident
    if args.dry_run:
        print("\n".join(checks.dry_run(args.name, experiment, workdir, layout, **hooks)))
        return 0
    if args.overfit is not None:
        return 0 if checks.overfit(experiment, args.overfit, layout) else 1
    report = finish.write if args.traceback else finish.attempt
    try:
        tracing = profile.Trace(workdir / "tensorboard", asked=args.profile)
        with lock.locked(workdir), tracing as trace:
            kept = [*beside.items(), environment.record(experiment.seed)]
            hooks |= {"beside": kept, "watch": trace, "finish": report}
            loop.train(args.name, experiment, workdir, layout, **hooks)
    except loop.Interrupted as stop:
        print(f"{stop} Launch the same command again to go on.", file=sys.stderr)
        return 128 + stop.signum
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Raises ValueError for options of which one would be ignored, or that make no sense."""
    evaluates, overfits = args.action == "evaluate", args.overfit is not None
    if overfits and args.overfit < 1:
        raise ValueError(f"--overfit must be at least 1; got {args.overfit}.")
    if args.sweep and (evaluates or overfits):
        raise ValueError("--sweep trains; evaluate and --overfit are for one run at a time.")
    if evaluates and (args.dry_run or overfits):
        raise ValueError("--dry-run and --overfit are for training; leave out `evaluate`.")
    if args.on_device and (args.profile or args.sweep):
        raise ValueError("--on-device takes many steps at once: no --profile, and no --sweep.")
    if (args.on_device or args.profile) and (evaluates or overfits):
        raise ValueError("--on-device and --profile are for a run's own training; leave them out.")
    if args.profile and (args.sweep or args.dry_run):
        raise ValueError("--profile traces one run's training: no --sweep, and no --dry-run.")
    if args.dry_run and overfits:
        raise ValueError("--dry-run trains nothing, and --overfit trains: give one of them.")
    if args.step and not evaluates:
        raise ValueError("--step is for evaluate; a training goes on from the latest checkpoint.")
    if args.json and not evaluates:
        raise ValueError("--json is for evaluate; a training writes metrics.jsonl.")


def show(scores: dict, *, as_json: bool) -> None:
    """Prints scores for a program, as one JSON object, or for a person, a line each."""
    if as_json:
        from zoo.train.logs import plain  # JAX, which the parent of many must not import.

        print(json.dumps(plain(scores), allow_nan=False))
        return
    for name, score in scores.items():
        print(f"{name}: {score}")


def main(argv: list[str] | None = None) -> int:
    """Bad input is one line and exit code 2; a signal is 128 + its number, as in a shell."""
    args = parser().parse_args(argv)
    try:
        if processes.leads(args):
            return processes.lead(args, sys.argv[1:] if argv is None else argv)
        with processes.joined(args):
            return run(args)
    except (ValueError, OSError) as error:
        if args.traceback:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        trains = args.action == "train" and not args.dry_run and args.overfit is None
        stays = "; what was saved stays, the same command goes on" if trains else ""
        print(f"Stopped{stays}.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    huge_pages.restart_to_ask()
    sys.exit(processes.leave(main()))
