"""Which mask belongs to which picture of a folder, whatever its layout.

The words in the names of folders tell pictures from masks and one split from another (train/images,
images/train2017, trainannot, JPEGImages, labelsTr); where no folder is one of masks, the ends of
the files' names do (NAME_mask.png). What folders say beyond that, a pair has in common.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

Pair = tuple[Path, Path]  # The files of a picture and of its mask.
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".webp")
_MASK = (
    r"(?:segmentationclass|segmentations?|semantics?|masks?|labels?|annotations?|annots?|seg|gts?"
    r"|groundtruths?|targets?)(?:png)?"
)
_IMAGE = r"(?:jpe?g|png)?(?:images?|imgs?|pictures?|photos?|inputs?|frames?)"
_SPLIT = r"train(?:ing)?|tr|val(?:id(?:ation)?)?|tests?|testing|ts"
_FOLDER = re.compile(rf"(?P<a>{_SPLIT})?(?:(?P<mask>{_MASK})|(?P<image>{_IMAGE}))?(?P<z>{_SPLIT})?")
_AFFIX = re.compile(rf"(?i)(?:{_MASK}[_. -]+(?=.)|.*[_. -]{_MASK}$)")
# What the names of a pair may differ in; nnU-Net ends a picture's in the number of its channel.
_BARE = re.compile(rf"(?i)^(?:{_MASK}|{_IMAGE})[_. -]+|[_. -]+(?:{_MASK}|{_IMAGE}|0000)$")


class Fault(NamedTuple):
    """Something wrong with a file of a folder, and its remedy; a warning need not be mended."""

    kind: str
    file: Path
    what: str
    remedy: str
    warning: bool = False


def find_pairs(root: Path) -> tuple[str, dict[str, list[Pair]], list[Fault]]:
    """The layout in words, pairs in numeric order by split ("" for none), files without a partner.

    Raises ValueError for a folder without pictures, masks or any pair.
    """
    if not (placed := _placed(root)):
        raise ValueError(f"{root} holds no pictures ({', '.join(SUFFIXES)}); give another folder.")
    roles = {role for role, *_ in placed.values()}
    # VOC's lists choose among the pictures.
    lists = [(split_of(f.stem), f) for f in sorted(root.rglob("ImageSets/Segmentation/*.txt"))]
    listed = {stem: s for s, file in lists if s for stem in file.read_text("utf-8").split()}
    faults, sides = [], {"image": {}, "mask": {}}
    for file, (role, split, rest) in placed.items():
        if "mask" not in roles:
            role = "mask" if _AFFIX.match(file.stem) else "image"
        elif role is None and "image" not in roles:
            role = "image"  # Beside a folder of masks.
        if role and (not listed or file.stem in listed):
            key = listed.get(file.stem, split), rest, file.stem
            if file is not (other := sides[role].setdefault(key, file)):
                what = f"has the name of {other.name} beside it"
                faults.append(Fault("name", file, what, "take one of the two away"))
    images, masks = sides.values()
    if not images or not masks:
        lacks, hint = (
            "pictures" if masks else "masks",
            "put images/ and masks/ of one name each in it",
        )
        raise ValueError(f"{root} holds no {lacks} beside {len(placed)} other files; {hint}.")
    bare = {(*key[:-1], _BARE.sub("", key[-1])): key for key in masks.keys() - images.keys()}
    pairs, rest, with_masks = defaultdict(list), dict(masks), {split for split, *_ in masks}
    alone = {
        root / n: "is listed, but not there" for n in listed if not any(n in k for k in images)
    }
    for key, file in images.items():
        match = key if key in masks else bare.get((*key[:-1], _BARE.sub("", key[-1])))
        if match in rest:
            pairs[key[0]].append((file, rest.pop(match)))
        elif key[0] in with_masks or not key[0]:  # A split without any mask is left out.
            alone[file] = "is a picture without a mask"
    alone |= dict.fromkeys(rest.values(), "is a mask without a picture")
    hint = "add what is missing, or take it away"
    faults += [Fault("unmatched", file, what, hint) for file, what in alone.items()]
    if not pairs:
        raise ValueError(f"{root} holds no pair: {faults[0].file} {faults[0].what}; {hint}.")
    names = [
        sorted({f"{f.parent.relative_to(root)}/" for f in s.values()}) for s in (images, masks)
    ]
    shown = (", ".join(some[:4]) + ", ..." * (len(some) > 4) for some in names)
    by = ", splits by ImageSets" * bool(listed)
    return "pictures in {}, masks in {}".format(*shown) + by, pairs, faults


def class_folders(root: Path) -> dict[tuple[str, str], list[Path]]:
    """{(split, class): pictures} of ROOT/class/* or ROOT/split/class/*; empty for other folders."""
    placed, found = _placed(root), defaultdict(list)
    if any(role or _AFFIX.match(file.stem) for file, (role, *_) in placed.items()):
        return {}
    for file, (_, split, rest) in placed.items():
        if rest:
            found[split, "/".join(rest)].append(file)
    top = {file.relative_to(root).parts[0] for file in placed}
    for folder in root.iterdir() if found else ():
        if folder.is_dir() and folder.name not in top and folder.name[0] != ".":
            found["", folder.name] = []
    return found


def split_of(folder: str) -> str:
    """The split that a folder's name tells: train, validation, test or none, ""."""
    match = _FOLDER.fullmatch(re.sub("[^a-z]", "", folder.lower()))
    word = (match["a"] or match["z"] or "") if match else ""
    starts = {"v": "validation", "tr": "train", "t": "test"}
    return next((split for start, split in starts.items() if word.startswith(start)), "")


def natural(text: str) -> list:
    """A key that sorts by the numbers within names: f9 before f10."""
    parts = re.split(r"(\d+)", text)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)] + [text]


def _placed(root: Path) -> dict[Path, tuple[str | None, str, tuple[str, ...]]]:
    """Role (image, mask or None), split and further folders of each picture not hidden."""
    placed = {}
    for file in sorted(root.rglob("*"), key=lambda file: natural(str(file))):
        parts, role, split, rest = file.relative_to(root).parts, None, "", []
        hidden = any(part[0] == "." for part in parts)
        if hidden or file.suffix.lower() not in SUFFIXES or file.is_dir():
            continue
        for part in parts[:-1]:
            match = _FOLDER.fullmatch(letters := re.sub("[^a-z]", "", part.lower()))
            if letters and match:
                role = "mask" if match["mask"] else "image" if match["image"] else role
                split = split_of(part) or split
            else:
                rest.append(part)
        placed[file] = role, split, tuple(rest)
    return placed
