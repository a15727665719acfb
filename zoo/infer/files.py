"""From picture files to files of class ids and overlays; nothing that is there is lost."""

import pathlib
from collections.abc import Iterator, Sequence

from PIL import Image

from zoo.data import images
from zoo.data.images import File, overlay, read_image
from zoo.infer.load import Trained
from zoo.infer.predict import check_tiling, predict
from zoo.train.segmentation import Segmentation


def predict_files(
    run: Trained, paths: Sequence[File], out: File, *, flips: bool = False, **tiling: int | None
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Writes OUT/STEM.png (class ids, palette PNG) and OUT/STEM_overlay.png for every picture.

    All is checked before the first file is written, or raises ValueError: that every picture can be
    read, that no output is an input, another picture's output or any other file, and that the tiles
    fit the model. Earlier predictions are replaced; OSError where `out` cannot be written.
    A folder among `paths` stands for the pictures in it; `out` is a folder, made if it is missing;
    `tiling`, the tile and the overlap of `predict`. Returns an iterator that predicts as it goes:
    each input with its file of class ids.
    """
    run.check(Segmentation)
    out = pathlib.Path(out)
    check_tiling(run.model, run.info.channels, **tiling)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder for the predictions.")
    inputs = pictures(paths)
    outputs = [(out / f"{p.stem}.png", out / f"{p.stem}_overlay.png") for p in inputs]
    _check_apart(inputs, outputs)
    for path in inputs:
        read_image(path, run.info.channels)  # Twice is cheap beside the model.
    out.mkdir(parents=True, exist_ok=True)
    options = {"preprocess": run.preprocess, "flips": flips, **tiling}
    meaning = run.info.colours, run.info.ignore_label

    def write(path: pathlib.Path, ids_path: pathlib.Path, overlay_path: pathlib.Path):
        image = read_image(path, run.info.channels)
        ids = predict(run.model, run.variables, image, **options)
        images.write_ids(ids_path, ids, *meaning)
        images.write_rgb(overlay_path, overlay(image, ids, *meaning))
        return path, ids_path

    return (write(path, *targets) for path, targets in zip(inputs, outputs, strict=True))


def pictures(paths: Sequence[File], *, deep: bool = False) -> list[pathlib.Path]:
    """The files, with folders replaced by the pictures in them (`deep`: at any depth), by name."""
    Image.init()
    suffixes = {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    suffixes -= {".bufr", ".grib", ".h5", ".hdf", ".mpeg", ".mpg"}  # Pillow opens none by itself.
    found = []
    for path in map(pathlib.Path, paths):
        inside = [path]
        if path.is_dir():
            listed = sorted(images.files_below(path) if deep else path.iterdir())
            shown = (p for p in listed if not any(n[0] == "." for n in p.relative_to(path).parts))
            inside = [p for p in shown if p.suffix.lower() in suffixes and p.is_file()]
        if not inside:
            raise ValueError(f"The folder {path} holds no pictures; give their paths.")
        found += inside
    if not found:
        raise ValueError("No picture was given; name one at least.")
    return found


def _check_apart(inputs: list[pathlib.Path], outputs: list[tuple[pathlib.Path, ...]]) -> None:
    """Raises ValueError where an output is another picture's, an input's, or another file's."""

    def identity(path: pathlib.Path) -> tuple[int, int] | None:
        # Device and inode: links, and names that a file system holds for equal, are seen through.
        return (path.stat().st_dev, path.stat().st_ino) if path.exists() else None

    sources = {identity(path): path for path in inputs if path.exists()}
    writers: dict[pathlib.Path, pathlib.Path] = {}
    for path, targets in zip(inputs, outputs, strict=True):
        for target in targets:
            other, source = writers.setdefault(target, path), sources.get(identity(target))
            if other is not path:
                problem = f"{other} and {path} would both be written to {target}"
                raise ValueError(f"{problem}; rename one, or predict them into two folders.")
            if source is None and target.exists() and not images.is_written(target):
                raise ValueError(f"{target} is there, and no prediction; choose another folder.")
            if source is not None:
                problem = f"The prediction {target} would replace the input {source}"
                raise ValueError(f"{problem}; choose another folder.")
