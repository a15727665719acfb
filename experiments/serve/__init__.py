"""A local page and a JSON API for one trained model: python -m zoo serve WORKDIR --help"""

import argparse
import pathlib
import sys


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C. Bad input is one line on stderr and exit code 2."""
    p = argparse.ArgumentParser(
        prog="python -m zoo serve",
        description="A page to drop pictures on, and a JSON API: segments pictures, or compares "
        "them and finds the nearest in a gallery.",
    )
    p.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR", help="where training wrote")
    p.add_argument("--step", choices=("best", "latest"), default="best", help="(default: best)")
    p.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1, this machine)")
    p.add_argument("--port", type=int, default=8000, help="(default: 8000; 0 is a free one)")
    gallery = "pictures to search in, as `embed` wrote them"
    p.add_argument("--gallery", type=pathlib.Path, metavar="FILE.npz", help=gallery)
    args = p.parse_args(argv)
    try:
        from experiments.serve.server import serve
        from zoo.infer import load_run, set_up_process

        set_up_process()
        run = load_run(args.workdir, which=args.step)
        serve(run, gallery=args.gallery, host=args.host, port=args.port)
        return 0
    except ModuleNotFoundError as error:
        told = f'{error}; pip install "vision-zoo[serve]" brings it.'
    except (ValueError, OSError) as error:
        told = " ".join(str(error).split())
    print(f"error: {told}", file=sys.stderr)
    return 2
