"""The pictures of a gallery that are nearest to one: python -m zoo search --help"""

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np

from zoo.data.checks import explained
from zoo.data.images import File, read_image
from zoo.infer import Trained, embed, load_run, set_up_process
from zoo.infer.load import fingerprint
from zoo.train.embedding import pair_distances

BLOCK = 2**16  # Pictures compared at a time, in float64.


def read_gallery(gallery: File) -> tuple[np.ndarray, np.ndarray, str, str]:
    """Paths [n], embeddings [n, d], workdir and fingerprint of a file of `embed_files`.

    Raises ValueError where it cannot be read, or is of a zoo that did not keep the last two.
    """
    hint = "write it by python -m zoo embed WORKDIR PICTURES --out FILE.npz"
    with explained(f"{gallery} is no gallery that can be read", hint), np.load(gallery) as file:
        paths, points, (workdir, mark) = file["paths"], file["embeddings"], file["model"].tolist()
        if not (points.ndim == 2 and len(points) == len(paths) > 0 and np.isfinite(points).all()):
            raise ValueError(f"{len(paths)} paths and embeddings {points.shape} that are no points")
        return paths, points, workdir, mark


def search(run: Trained, gallery: File, image: File, *, k: int = 5) -> list[dict[str, Any]]:
    """The k nearest pictures of a gallery, or all where it has fewer: `path` and `distance`.

    As `nearest` finds them. Raises ValueError for an unreadable picture or gallery, one of another
    model, and k below 1.
    """
    paths, points, _, mark = read_gallery(gallery)
    if mark != fingerprint(run):
        problem = (
            f"{gallery} was embedded by another model or zoo, or by {run.workdir} at another step"
        )
        raise ValueError(f"{problem}; embed its pictures again, or name its model by --workdir.")
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}.")
    images = [read_image(image, run.info.channels)]
    query = embed(run.model, run.variables, images, preprocess=run.preprocess)[0]
    found = zip(*nearest(run, points, query, k), strict=True)
    return [{"path": str(paths[row]), "distance": float(d)} for row, d in found]


def nearest(
    run: Trained, points: np.ndarray, query: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and distances [k] of the points [n, d] nearest to a query [d], nearest first.

    The distance is that of `zoo.verify`: Euclidean, here in float64, or minus the logit where the
    model judges pairs, by which alone its threshold means something. No point is left out; of
    equally near ones the first comes first.
    """
    distances = []
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK].astype(np.float64)
        queries = np.broadcast_to(query, block.shape)
        distances.append(pair_distances(run.model, run.variables, queries, block))
    distances = np.concatenate(distances)
    rows = np.argsort(distances, kind="stable")[:k]
    return rows, distances[rows]


def main(argv: list[str] | None = None) -> int:
    """Prints what `search` finds. Bad input is one line on stderr and exit code 2."""
    p = argparse.ArgumentParser(
        prog="python -m zoo search",
        description="GALLERY.npz is what `embed` wrote; the model is the one that wrote it, looked "
        "for where it then was unless --workdir says where it is now. Each line is a distance, as "
        "`verify` reports it (Euclidean; minus the logit where the model judges pairs), and a "
        "path.",
    )
    p.add_argument("gallery", type=pathlib.Path, metavar="GALLERY.npz")
    p.add_argument("image", type=pathlib.Path, metavar="IMAGE")
    # A shell leaves the ~ of --workdir=~/runs as it is.
    home = {"type": lambda text: pathlib.Path(text).expanduser()}
    p.add_argument("--workdir", **home, help="the model's, or its .safetensors")
    p.add_argument("--step", choices=("best", "latest"), default="best", help="(default: best)")
    p.add_argument("-k", type=int, default=5, help="how many (default: 5)")
    p.add_argument("--json", action="store_true", help="print one JSON list")
    args = p.parse_args(argv)
    try:
        set_up_process()
        place = args.workdir or read_gallery(args.gallery)[2]
        hint = "give its present place by --workdir"
        with explained(f"The model of {args.gallery} cannot be loaded", hint, ValueError):
            run = load_run(place, which=args.step)
        found = search(run, args.gallery, args.image, k=args.k)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    lines = (f"{item['distance']:.4g}  {item['path']}" for item in found)
    print(json.dumps(found) if args.json else "\n".join(lines))
    return 0
