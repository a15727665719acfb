"""Uses what was trained, from the command line. python -m zoo --help"""

import argparse
import json
import pathlib
import sys

import zoo


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m zoo", description="Uses a trained model.")
    p.add_argument("--version", action="version", version=zoo.__version__)
    commands = p.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(use, images: str | int, metavar: str, **words: str) -> argparse.ArgumentParser:
        """A command, with the arguments that say which model is used on which pictures."""
        p = commands.add_parser(use.__name__, **words)
        p.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR", help="where training wrote")
        p.add_argument("images", type=pathlib.Path, nargs=images, metavar=metavar)
        p.add_argument("--step", choices=("best", "latest"), default="best", help="(default: best)")
        p.set_defaults(use=use)
        return p

    p_predict = add(
        predict, "+", "IMAGE_OR_DIR", help="the class of every pixel of pictures",
        description="Writes STEM.png, the class ids as a palette PNG, and STEM_overlay.png for "
        "every picture. Never replaces a picture it was given.",
    )  # fmt: skip
    p_predict.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    flips = "average with the mirror image: 2x the time"
    p_predict.add_argument("--flips", action="store_true", help=flips)
    tile = "cut pictures with a side above N px into tiles (default: 512)"
    p_predict.add_argument("--tile", type=int, default=512, metavar="N", help=tile)
    overlap = "px that tiles share (default: what makes tiles exact, half a tile at most)"
    p_predict.add_argument("--overlap", type=int, metavar="N", help=overlap)
    p_embed = add(
        embed, "+", "IMAGE_OR_DIR", help="pictures, or all below a folder, as points",
        description="Writes FILE.npz with the arrays `paths` and `embeddings` [n, d].",
    )  # fmt: skip
    p_embed.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.npz")
    p_verify = add(
        verify, 2, "IMAGE", help="whether two pictures show the same",
        description="By the threshold of equal errors on the validation split.",
    )  # fmt: skip
    p_verify.add_argument("--json", action="store_true", help="print one JSON object")
    p_check = commands.add_parser("check", help="every fault of a folder; exit code 1: mend some")
    p_check.add_argument("folder", type=pathlib.Path, metavar="DATA_DIR")
    p_check.add_argument("--json", action="store_true", help="print one JSON object")
    p_check.set_defaults(use=check)
    return p


def check(args: argparse.Namespace) -> int:
    taken, faults = zoo.data.check_folder(args.folder)
    must = sum(not fault.warning for fault in faults)
    if args.json:
        told = {"folder": args.folder, "layout": taken, "faults": [f._asdict() for f in faults]}
        print(json.dumps(told, default=str))
        return int(must > 0)
    width = max((len(str(fault.file)) for fault in faults), default=0)
    for kind, file, what, remedy, warning in faults:
        print(f"{('mend', 'warning')[warning]:7}  {kind:10}  {file!s:{width}}  {what}: {remedy}")
    print(f"{args.folder}, {taken}: {must} fault(s) to mend, {len(faults) - must} warning(s)")
    return int(must > 0)


def predict(run, args: argparse.Namespace) -> None:
    options = {"tile": args.tile, "overlap": args.overlap, "flips": args.flips}
    count = 0
    for image, ids in zoo.predict_files(run, args.images, args.out, **options):
        print(f"{image} -> {ids}")
        count += 1
    what = f"{count} picture{'s' * (count > 1)} predicted by {run.name}, step {run.step}"
    print(f"{what}: class ids (STEM.png) and overlays (STEM_overlay.png) are in {args.out}")


def embed(run, args: argparse.Namespace) -> None:
    _, embeddings = zoo.embed_files(run, args.images, args.out)
    count, features = embeddings.shape
    what = f"{count} picture{'s' * (count > 1)} embedded by {run.name}, step {run.step}"
    print(f"{what}, in {features} dimensions: {args.out}")


def verify(run, args: argparse.Namespace) -> None:
    verdict = zoo.verify(run, *args.images)
    if args.json:
        print(json.dumps(verdict))
        return
    print(
        f"{'same' if verdict['same'] else 'different'}: distance {verdict['distance']:.4g}, "
        f"threshold {verdict['threshold']:.4g}; at it {100 * verdict['false_accept_rate']:.1f} % "
        f"of the different pairs of the validation split pass for the same"
    )


def main(argv: list[str] | None = None) -> int:
    """Bad input is one line on stderr and exit code 2."""
    args = parser().parse_args(argv)
    try:
        if args.use is check:
            return check(args)
        # After the command line is known to be right: `zoo.infer` takes seconds to import.
        zoo.infer.set_up_process()
        args.use(zoo.load_run(args.workdir, which=args.step), args)
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the pictures predicted so far are whole.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
