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

    def add(run, images: str | int, metavar: str, **words: str) -> argparse.ArgumentParser:
        """A command, with the arguments that say which model is used on which pictures."""
        p = commands.add_parser(run.__name__, **words)
        p.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR", help="where training wrote")
        p.add_argument("images", type=pathlib.Path, nargs=images, metavar=metavar)
        p.add_argument("--step", choices=("best", "latest"), default="best", help="(default: best)")
        p.set_defaults(run=run)
        return p

    p_predict = add(
        predict, "+", "IMAGE_OR_DIR",
        help="the class of every pixel of pictures",
        description="Writes STEM.png, the class ids as a palette PNG, and STEM_overlay.png for "
        "every picture. Never replaces a picture it was given.",
    )  # fmt: skip
    p_predict.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    p_predict.add_argument(
        "--flips", action="store_true", help="average with the mirror image: 2x the time"
    )
    p_predict.add_argument(
        "--tile", type=int, default=512, metavar="N",
        help="cut pictures with a side above N px into tiles (default: 512)",
    )  # fmt: skip
    p_predict.add_argument(
        "--overlap", type=int, metavar="N",
        help="px that tiles share (default: what makes tiles exact, half a tile at most)",
    )  # fmt: skip
    p_embed = add(
        embed, "+", "IMAGE_OR_DIR",
        help="pictures, or all below a folder, as points",
        description="Writes FILE.npz with the arrays `paths` and `embeddings` [n, d].",
    )  # fmt: skip
    p_embed.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.npz")
    p_verify = add(
        verify, 2, "IMAGE",
        help="whether two pictures show the same",
        description="By the threshold of equal errors on the validation split.",
    )  # fmt: skip
    p_verify.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def predict(args: argparse.Namespace) -> None:
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


def embed(args: argparse.Namespace) -> None:
    from zoo.infer import embed_files, load_run, set_up_process

    set_up_process()
    run = load_run(args.workdir, which=args.step)
    _, embeddings = embed_files(run, args.images, args.out)
    count, features = embeddings.shape
    print(
        f"{count} picture{'s' * (count > 1)} embedded by {run.name}, step {run.step}, in "
        f"{features} dimensions: {args.out}"
    )


def verify(args: argparse.Namespace) -> None:
    from zoo.infer import load_run, set_up_process, verify

    set_up_process()
    verdict = verify(load_run(args.workdir, which=args.step), *args.images)
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
        args.run(args)
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the pictures predicted so far are whole.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
