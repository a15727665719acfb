"""Uses what was trained, from the command line. python -m zoo --help"""

import argparse
import pathlib
import sys

import zoo


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m zoo", description="Uses a trained model.")
    p.add_argument("--version", action="version", version=zoo.__version__)
    commands = p.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_predict(commands)
    return p


def add_predict(commands) -> None:
    p = commands.add_parser(
        "predict",
        help="the class of every pixel of pictures",
        description="Writes STEM.png, the class ids as a palette PNG, and STEM_overlay.png for "
        "every picture. Never replaces a picture it was given.",
    )
    p.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR", help="where training wrote")
    p.add_argument(
        "images",
        type=pathlib.Path,
        nargs="+",
        metavar="IMAGE",
        help="a picture, or a folder of some",
    )
    p.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="made if missing")
    p.add_argument(
        "--flips", action="store_true", help="average with the mirror image: 2x the time"
    )
    p.add_argument(
        "--tile", type=int, default=512, metavar="N",
        help="cut pictures with a side above N px into tiles (default: 512)",
    )  # fmt: skip
    p.add_argument(
        "--overlap", type=int, metavar="N",
        help="px that tiles share (default: what makes tiles exact, half a tile at most)",
    )  # fmt: skip
    p.add_argument(
        "--step", choices=("best", "latest"), default="best", help="the checkpoint (default: best)"
    )
    p.set_defaults(run=run_predict)


def run_predict(args: argparse.Namespace) -> int:
    # After the command line is known to be right: these take seconds to import.
    from zoo.infer import load_run, predict_files, set_up_process

    set_up_process()
    run = load_run(args.workdir, which=args.step)
    options = {"tile": args.tile, "overlap": args.overlap, "flips": args.flips}
    count = 0
    for image, ids in predict_files(run, args.images, args.out, **options):
        print(f"{image} -> {ids}")
        count += 1
    print(
        f"{count} picture{'s' * (count > 1)} predicted by {run.name}, step {run.step}: class ids "
        f"(STEM.png) and overlays (STEM_overlay.png) are in {args.out}"
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Bad input is one line on stderr and exit code 2."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the pictures predicted so far are whole.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
