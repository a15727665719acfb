"""Uses what was trained, from the command line. python -m zoo --help"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
from collections.abc import Sequence

import zoo


def parser(more: Sequence[str]) -> argparse.ArgumentParser:
    others = f"further commands, each with its own --help: {', '.join(more)}" if more else None
    p = argparse.ArgumentParser("python -m zoo", description="Uses a trained model.", epilog=others)
    p.add_argument("--version", action="version", version=zoo.__version__)
    commands = p.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(use, images: str | int, metavar: str, **words: str) -> argparse.ArgumentParser:
        """A command, with the arguments that say which model is used on which pictures."""
        p = commands.add_parser(use.__name__, **words)
        option = {"help": "where training wrote, or an exported .safetensors"}
        p.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR", **option)
        if images:
            p.add_argument("images", type=pathlib.Path, nargs=images, metavar=metavar)
        p.add_argument("--step", choices=("best", "latest"), default="best", help="(default: best)")
        p.set_defaults(use=use)
        return p

    p_predict = add(
        predict, "+", "IMAGE_OR_DIR", help="the class of every pixel of pictures",
        description="Writes STEM.png, the class ids as a palette PNG, and STEM_overlay.png for "
        "every picture. Never replaces a picture it was given.",
    )  # fmt: skip
    out = {"required": True, "type": lambda x: pathlib.Path(os.path.expanduser(x))}  # In --out=~/x
    p_predict.add_argument("--out", metavar="DIR", **out)
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
    p_embed.add_argument("--out", metavar="FILE.npz", **out)
    p_verify = add(
        verify, 2, "IMAGE", help="whether two pictures show the same",
        description="By the threshold of equal errors on the validation split.",
    )  # fmt: skip
    p_verify.add_argument("--json", action="store_true", help="print one JSON object")
    p_export = add(
        export, 0, "", help="the model as one file that needs no zoo",
        description="Writes FILE, a StableHLO program from pictures to ids or embeddings that jax "
        "and flatbuffers run alone, and FILE.json, what the ids mean. Or, as safetensors, the "
        "tensors and config.json, which every command takes in place of WORKDIR.",
    )  # fmt: skip
    p_export.add_argument("--out", metavar="FILE", **out)
    p_export.add_argument("--format", choices=("stablehlo", "safetensors"), default="stablehlo")
    p_export.add_argument("--logits", action="store_true", help="in place of ids (stablehlo)")
    return p


def predict(run, args: argparse.Namespace) -> None:
    options = {"tile": args.tile, "overlap": args.overlap, "flips": args.flips}
    count = 0
    for image, ids in zoo.predict_files(run, args.images, args.out, **options):
        print(f"{image} -> {ids}")
        count += 1
    what = f"{count} picture{'s' * (count > 1)} predicted by {run.name}, step {run.step}"
    print(f"{what}: class ids (STEM.png) and overlays (STEM_overlay.png) are in {args.out}")


def embed(run, args: argparse.Namespace) -> None:
    count, features = zoo.embed_files(run, args.images, args.out)[1].shape
    what = f"{count} picture{'s' * (count > 1)} embedded by {run.name}, step {run.step}"
    print(f"{what}, in {features} dimensions: {args.out}")


def verify(run, args: argparse.Namespace) -> None:
    verdict = zoo.verify(run, *args.images)
    if args.json:
        print(json.dumps(verdict))
        return
    what, share = ("different", "same")[verdict["same"]], 100 * verdict["false_accept_rate"]
    pair = f"{what}: distance {verdict['distance']:.4g}, threshold {verdict['threshold']:.4g}"
    passing = f"{share:.1f} % of the different pairs of the validation split pass for the same"
    print(f"{pair}; at it {passing}")


def export(run, args: argparse.Namespace) -> None:
    takes = zoo.export(run, args.out, format=args.format, logits=args.logits)
    how = f"a program of pictures [{takes}] uint8, explained by {args.out}.json"
    how = how if takes else f"tensors, with config.json; zoo.load({str(args.out)!r}) reads them"
    print(f"{run.name}, step {run.step}, is in {args.out}: {how}")


def main(argv: list[str] | None = None) -> int:
    """Bad input is one line on stderr and exit code 2.

    Installed packages may add commands: entry points of "zoo.commands", functions as this one.
    """
    if hasattr(sys.stdout, "reconfigure"):  # A file's name may be no UTF-8.
        sys.stdout.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    more = {p.name: p for p in importlib.metadata.entry_points(group="zoo.commands")}
    try:
        if argv and argv[0] in more:
            return more[argv[0]].load()(argv[1:])
        args = parser(sorted(more)).parse_args(argv)
        # After the command line is known to be right: `zoo.infer` takes seconds to import.
        zoo.infer.set_up_process()
        args.use(zoo.load_run(args.workdir, which=args.step), args)
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what is written so far is whole.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
