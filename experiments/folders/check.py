"""Every fault of a folder of pictures and masks, or of classes, in one pass; nothing is written.

python -m zoo check DATA_DIR [--json]
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.folders.classes import class_folders
from experiments.folders.duplicates import mark, near_pairs
from experiments.folders.layouts import Fault, find_pairs
from experiments.folders.meanings import REMEDY, Meaning, Seen, look, understand
from experiments.folders.splits import SHARES, grouped, hold_out, split_pictures
from experiments.folders.tables import find_table
from zoo.data.images import read_image

RARE = 1e-3  # Share of the labelled pixels below which a class is hard to learn.


def check_folder(root: Path) -> tuple[str, list[Fault]]:
    """What the folder was taken for, in words, and its faults; those to be mended come first.

    Raises ValueError where it is no folder, or lacks pictures, masks or any pair of them.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give one with pictures.")
    marks, seen, masks = {}, {}, {}
    files, faults, aside = class_folders(root)
    if files:
        place = {file: key for key, some in files.items() for file in some}  # (split, class).
        taken = f"{len(place)} pictures in folders of {len({name for _, name in files})} classes"
        taken += f"; {aside}" * bool(aside)
    else:
        taken, pairs, faults = find_pairs(root)
        masks = {image: mask for some in pairs.values() for image, mask in some}
        place = {image: (split, "") for split, some in pairs.items() for image, _ in some}
        if len(masks) == 1:
            faults.append(Fault("few", *masks, "cannot both train and validate alone", "add some"))
    for image in place:
        pixels = _tried(lambda file: read_image(file, 3), image, faults)
        one = _tried(look, masks[image], faults) if masks else None
        marks |= {} if pixels is None else {image: mark(pixels)}
        seen |= {} if one is None else {masks[image]: one}
        if pixels is not None and one is not None:
            faults += _sizes(image, masks[image], pixels.shape[:2], one.size)
    if seen:
        splits = {mask: place[image][0] for image, mask in masks.items()}
        meaning = _tried(lambda _: understand(seen, find_table(root, [*splits])), root, faults)
        faults += _values(meaning, seen, splits) if meaning else []
    faults += _dark([*marks])
    near = near_pairs([*marks.values()])
    if len(marks) > 1:
        names = {file.relative_to(root).as_posix(): place[file] for file in marks}
        groups = grouped([*names], [(i, j) for i, j, _ in near], "")
        _tried(lambda _: _splits(groups, names, bool(masks)), root, faults, "split")
        faults += _duplicates(near, [*marks], place, [*groups.values()])
    return taken, sorted(faults, key=lambda fault: (fault.warning, fault.kind))


def _splits(groups: Mapping[str, str], place: Mapping[str, tuple], masks: bool) -> None:
    """Raises ValueError where a run could not split the folder; the shares are those of plans."""
    given, classes = ({name: key[k] for name, key in place.items()} for k in (0, 1))
    if masks:
        split_pictures(given, groups, SHARES[0], 0.0)
    elif not any(given.values()):
        hold_out(classes, groups)


def _tried(
    read: Callable[[Path], Any], file: Path, faults: list[Fault], kind: str | None = None
) -> Any:
    """What `read` makes of a file, or None and one fault more."""
    try:
        return read(file)
    except ValueError as error:
        text = str(error).removeprefix("The mask ").removeprefix(f"{file} ").rstrip(".")
        what, _, remedy = text.partition("; ")
        broken = "cannot be read as" in text or "an empty file" in text
        kind = kind or ("classes" if file.is_dir() else "unreadable" if broken else "mode")
        faults.append(Fault(kind, file, what, remedy))


def _duplicates(
    near: Sequence[tuple], files: Sequence[Path], place: Mapping, groups: Sequence[str]
) -> list[Fault]:
    """The worst pair of each group: the same picture, or nearly in two splits or classes."""
    by_group, faults = defaultdict(list), []
    for i, j, same in near:
        apart, unlike = (a != b for a, b in zip(place[files[i]], place[files[j]], strict=True))
        if apart or unlike or same:
            mild = not apart and not (unlike and same)
            by_group[groups[i]].append((mild, not same, i, j, apart))
    for pairs in by_group.values():
        (mild, nearly, i, j, apart), more = min(pairs), len(pairs) - 1
        what = f"is {'nearly ' * nearly}the same picture as {files[j]}{' of another split' * apart}"
        what += f", and {more} more {'is' if more == 1 else 'are'}" * (more > 0)
        remedy = "keep one of them" if more else "take one of the two away"
        faults.append(Fault("duplicate", files[i], what, remedy, mild))
    return faults


def _dark(files: Sequence[Path]) -> list[Fault]:
    """Of 16-bit pictures, as a whole: cameras of 10 or 12 bits leave the highest ones unused."""
    highest = {}
    for file in files:
        with Image.open(file) as opened:
            if opened.mode.startswith("I"):
                highest[file] = int(np.asarray(opened).max())
    most = max(highest.values(), default=2**16)
    if most >= 2**14:
        return []
    what = f"is of {len(highest)} 16-bit picture(s) with values up to {most}, which are read by"
    what += f" dividing by 257: {round(most / 257) + 1} grey levels are left"
    return [Fault("depth", min(highest), what, "multiply all by one factor, up to 65535", True)]


def _sizes(image: Path, mask: Path, size: tuple, own: tuple) -> list[Fault]:
    """Of a picture and a mask whose sizes differ, or that EXIF may have turned apart."""
    turns = []
    for file in (image, mask):
        with Image.open(file) as opened:
            tag = opened.getexif().get(0x0112)
            turns.append(tag if tag in range(2, 9) else 1)  # Others leave it as it is stored.
    # Orientations 2 to 4 keep width and height.
    across = (turns[0] > 4) != (turns[1] > 4)
    if turns[0] != turns[1] and own == (size[::-1] if across else size):
        file, tag, other = image, turns[0], f"mask {mask.name}"
        remedy = "turn the mask likewise, or save the picture turned and without the tag"
        if turns[0] == 1:
            file, tag, other = mask, turns[1], f"picture {image.name}"
            remedy = "save the mask without the tag, or turn the picture likewise"
        unlike = "is not" if 1 in turns else f"by another ({turns[1]})"
        what = f"is turned by its EXIF tag ({tag}), its {other} {unlike}"
        return [Fault("exif", file, what, remedy, warning=own == size)]
    (h, w), (height, width) = own, size
    what = f"is {w}x{h} px, but its picture {image.name} {width}x{height}"
    return [Fault("size", mask, what, "make them equal")] if own != size else []


def _values(meaning: Meaning, seen: Mapping[Path, Seen], splits: Mapping) -> list[Fault]:
    """Stray values, empty masks, classes of one split or one picture, and rare ones."""
    faults, shown = [], defaultdict(dict)  # By class: pixels in the masks that show it.
    for mask, one in seen.items():
        how = one.coloured, one.palette
        if wrong := meaning.wrong([*one.pixels], *how):
            faults.append(Fault("values", mask, wrong, REMEDY))
        for i, n in zip(meaning.own([*one.pixels], *how), one.pixels.values(), strict=True):
            if i not in (-1, 255):
                shown[i][mask] = shown[i].get(mask, 0) + n
    if not shown:
        return faults
    total = {i: sum(masks.values()) for i, masks in shown.items()}
    common, every = max(total, key=total.get), {splits[mask] for mask in seen}
    for mask in seen.keys() - {mask for i in shown if i != common for mask in shown[i]}:
        what = f"holds nothing but {meaning.names[common]} or void"
        faults.append(Fault("empty", mask, what, "see whether something was left out", True))
    for i, masks in shown.items():
        name, most, where = meaning.names[i], max(masks, key=masks.get), {splits[m] for m in masks}
        for split in every - where:
            what, must = f"shows {name}, which no mask of {split} does", split == "train"
            faults.append(Fault("split", most, what, "move pictures between splits", not must))
        if len(masks) == 1 < len(seen) and every == where:
            what = f"is the only one with {name}, which cannot both be trained and scored"
            faults.append(Fault("split", most, what, "add pictures of it", True))
        if total[i] < RARE * sum(total.values()):
            what = f"shows the most of {name}, but all masks have {total[i]} pixels of it"
            faults.append(Fault("imbalance", most, what, "add pictures of it", True))
    return faults


def _json(folder: Path, taken: str, faults: list[Fault]) -> str:
    found = {"folder": folder, "layout": taken, "faults": [f._asdict() for f in faults]}
    return json.dumps(found, default=str)


def main(argv: list[str] | None = None) -> int:
    """A line for each fault. Exit code 1 where something must be mended, 2 for bad input."""
    p = argparse.ArgumentParser(
        prog="python -m zoo check",
        description="Lists every fault of a folder of pictures and masks, or of classes, each with "
        "its remedy. Exit code 1: at least one must be fixed.",
    )
    p.add_argument("folder", type=Path, metavar="DATA_DIR")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    args = p.parse_args(argv)
    try:
        taken, faults = check_folder(args.folder)
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())
        print(f"error: {text}", file=sys.stderr)
        if args.json:
            what, _, remedy = text.rstrip(".").partition("; ")
            print(_json(args.folder, "", [Fault("folder", args.folder, what, remedy)]))
        return 2
    must = sum(not fault.warning for fault in faults)
    if args.json:
        print(_json(args.folder, taken, faults))
        return int(must > 0)
    width = max((len(str(fault.file)) for fault in faults), default=0)
    for kind, file, what, remedy, warning in faults:
        _say(f"{('mend', 'warning')[warning]:7}  {kind:10}  {file!s:{width}}  {what}: {remedy}")
    _say(f"{args.folder}, {taken}: {must} fault(s) to mend, {len(faults) - must} warning(s)")
    return int(must > 0)


def _say(line: str) -> None:
    """Prints a line; of names that are no text, what cannot be printed as \\udce9."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))
