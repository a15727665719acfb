"""Which mask belongs to which picture of a folder, whatever its layout.

The words in the names of folders tell pictures from masks and one split from another (train/images,
images/train2017, trainannot, JPEGImages, labelsTr), and beside a folder of masks the only other one
is of pictures where it holds their names; where no folder is one of masks, the files' names do it
(NAME_mask.png, or CASE/image.png and CASE/mask.png). What folders say beyond that, a pair has in
common.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from zoo.data.checks import explained
from zoo.data.images import files_below

Pair = tuple[Path, Path]  # The files of a picture and of its mask.
Key = tuple[str, tuple[str, ...], str]  # Split, further folders and stem of one of them.
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".webp")
_MASK = (
    r"(?:png)?(?:segmentationclass|segmentations?|semantics?|masks?|labels?|annotations?|annots?"
    r"|seg|trimaps?|gtfine|gtcoarse|gts?|groundtruths?|targets?)+(?:png|images?)?"
)
_IMAGE = r"(?:jpe?g|png)?(?:images?|imgs?|pictures?|photos?|inputs?|frames?|leftimg8?bit)"
_SPLIT = r"train(?:ing)?|tr|val(?:id(?:ation)?)?|tests?|testing|ts"
_FOLDER = re.compile(
    rf"(?P<a>{_SPLIT})?(?:(?:(?P<mask>{_MASK}|ann(?=dir))|(?P<image>{_IMAGE}))(?:dir)?)?"
    rf"(?P<z>{_SPLIT})?"
)
_AFFIX = re.compile(rf"(?i)(?:{_MASK}[_. -]+(?=.)|(?:.*[_. -])?{_MASK}$)")
# What the names of a pair may differ in; nnU-Net ends a picture's in the number of its channel.
_WORD = rf"(?:{_MASK}|{_IMAGE}|gt(?:fine|coarse)_label(?:train)?ids)"
_BARE = re.compile(
    rf"(?i)^{_WORD}$|^(?:{_WORD}[_. -]+)+|(?:[_. -]+(?:{_WORD}|0000|jpe?g|png|tiff?|bmp))+$"
)
# Cityscapes has several masks of a picture; ids of training are there where somebody made them.
_CITY = re.compile(r"(?i).*_gt(?:fine|coarse)_(labeltrainids|labelids|instance(?:train)?ids|color)")
# Folders that may be meant where another one was taken; VOC's objects are no classes.
_MAYBE = re.compile(r"manual|mask|label|annot|truth|gt$|seg(?!mentationobject)")


class Fault(NamedTuple):
    """Something wrong with a file of a folder, and its remedy; a warning need not be mended."""

    kind: str
    file: Path
    what: str
    remedy: str
    warning: bool = False


def find_pairs(root: Path) -> tuple[str, dict[str, list[Pair]], list[Fault]]:
    """The layout in words, pairs in numeric order by split ("" for none), and faults.

    A fault is a file without a partner, of a name with another, or a folder that may be meant, too.
    Raises ValueError for a folder without pictures, masks or any pair.
    """
    if not (placed := _placed(root)):
        raise ValueError(f"{root} holds no pictures ({', '.join(SUFFIXES)}); give another folder.")
    lists = [(f, split) for f in split_lists(root) if (split := split_of(f.stem))]
    listed = {stem: split for f, split in lists for stem in read_text(f).split()}
    (images, masks), faults = _sides(placed, listed)
    if not images or not masks:
        lacks, hint = (
            "pictures" if masks else "masks",
            "put images/ and masks/ of one name each in it",
        )
        if folders := like_masks(root):
            hint = f"name the masks' masks/ (is it {_named(folders, root)}?), take others away"
        raise ValueError(f"{root} holds no {lacks} beside {len(placed)} other files; {hint}.")
    faults += misnamed(root, placed)
    partner, with_masks = _partners(images, masks), {split for split, *_ in masks}
    pairs = defaultdict(list)
    for key in filter(partner.get, images):
        pairs[key[0]].append((images[key], masks[partner[key]]))
    there = {file.stem for file in images.values()}
    alone = {root / n: "is listed, but not there" for n in listed if n not in there}
    for key in images.keys() - partner.keys():
        if key[0] in with_masks or not key[0]:  # A split without any mask is left out.
            alone[images[key]] = "is a picture without a mask"
    for key in masks.keys() - {*partner.values()}:
        alone[masks[key]] = "is a mask without a picture"
    hint = "add what is missing, or take it away"
    by_number = sorted(alone, key=lambda file: natural(str(file)))
    if not pairs:
        first, known = by_number[0], {role for role, *_ in placed.values()}
        if known == {"mask", None}:
            hint = f"name the folder of the pictures images/, or {hint}"
        raise ValueError(f"{root} holds no pair: {first} {alone[first]}; {hint}.")
    faults += [Fault("unmatched", file, alone[file], hint) for file in by_number]
    paired = {file for some in pairs.values() for pair in some for file in pair}
    left = Counter(file.parent for file in placed if file not in paired | {*alone})
    known = {file.parent for file in paired} | {fault.file for fault in faults}
    names = [_named({f.parent for f in side.values()}, root) for side in (images, masks)]
    for folder, n in left.items():
        word = re.sub("[^a-z]", "", folder.relative_to(root).name.lower())
        if folder not in known and _MAYBE.search(word) and 4 * n >= len(masks):
            what = f"may be of masks as well as {names[1]}, where they were looked for"
            remedy = "name the one that is meant masks/, and take the other out of the folder"
            faults.append(Fault("folders", folder, what, remedy))
    layout = f"pictures in {names[0]}, masks in {names[1]}" + ", splits by ImageSets" * bool(listed)
    aside = f"; left aside: {left.total()} picture(s) in {_named(left, root)}" * bool(left)
    return layout + aside, pairs, faults


def split_lists(root: Path) -> list[Path]:
    """VOC's lists, which choose among the pictures."""
    return [f for f in sorted(files_below(root)) if f.match("ImageSets/Segmentation/*.txt")]


def misnamed(root: Path, files: Iterable[Path]) -> list[Fault]:
    """Files, and folders of theirs below the root, whose names no text file can hold."""
    places = {place for file in files for place in (file, *file.parents) if root in place.parents}
    bad = sorted(place for place in places if re.search(r"[\ud800-\udfff]", place.name))
    return [Fault("name", place, "has a name that is no UTF-8", "rename it") for place in bad]


def read_text(file: Path) -> str:
    """A small text file; ValueError that names it where it is none in UTF-8."""
    with explained(f"{file} is no text in UTF-8", "save it as such", UnicodeDecodeError):
        return file.read_text("utf-8-sig")


def _named(folders: Collection[Path], root: Path) -> str:
    """Some folders in words."""
    names = sorted(f"{folder.relative_to(root)}/" for folder in folders)
    return ", ".join(names[:4]) + ", ..." * (len(names) > 4)


def _sides(placed: Mapping, listed: Mapping[str, str]) -> tuple[list[dict[Key, Path]], list[Fault]]:
    """Pictures and masks by split, further folders and stem; faults where two are of one name."""
    found, faults, sides = {role for role, *_ in placed.values()}, {}, {"image": {}, "mask": {}}
    kinds = {match[1].lower() for f in placed if (match := _CITY.fullmatch(f.stem))}
    kind = next((kind for kind in ("labeltrainids", "labelids") if kind in kinds), None)
    for file, (role, split, rest) in placed.items():
        if "mask" not in found:
            role = "mask" if _AFFIX.match(file.stem) else "image"
        elif role is None and "image" not in found:
            role = "image"  # Beside a folder of masks.
        if role == "mask" and (city := _CITY.fullmatch(file.stem)) and city[1].lower() != kind:
            continue
        if role and (not listed or file.stem in listed):
            stem = unicodedata.normalize("NFC", file.stem)  # macOS may write accents apart.
            key = listed.get(file.stem, split), rest, stem
            other = sides[role].setdefault(key, file)
            if file is not other and file.parent == other.parent:
                what = f"has the name of {other.name} beside it"
                faults[file] = Fault("name", file, what, "take one of the two away")
            elif file is not other:
                what = f"holds files of the same names as {other.parent}"
                remedy = "take one of the two out of the folder"
                faults[file.parent] = Fault("folders", file.parent, what, remedy)
    return [*sides.values()], [*faults.values()]


def _partners(images: Mapping[Key, Path], masks: Mapping[Key, Path]) -> dict[Key, Key]:
    """The mask of each picture that has one: of its name, its bare name, its number; no guess."""
    found, forms = {}, [str, _bare, _unpadded]
    if all(stem.endswith("_L") for *_, stem in masks):  # CamVid's; beside an _R it is the left.
        forms.append(lambda stem: _unpadded(stem.removesuffix("_L")))
    for form in forms:
        sides = defaultdict(lambda: ([], []))
        for side, keys in enumerate((images.keys() - found, masks.keys() - {*found.values()})):
            for key in keys:
                sides[*key[:-1], form(key[-1])][side].append(key)
        found |= {i[0]: m[0] for i, m in sides.values() if len(i) == len(m) == 1}
    return found


def _bare(stem: str) -> str:
    return _BARE.sub("", stem)


def _unpadded(stem: str) -> str:
    return re.sub(r"0*(\d+)", r"\1", _bare(stem))


def roles(root: Path) -> dict[str | None, Path]:
    """A picture of each role that folders have by their names: image, mask, None for others."""
    return {role: file for file, (role, *_) in reversed(_placed(root).items())}


def like_masks(root: Path) -> list[Path]:
    """Folders like masks_box/, with the names of images/, where none is of masks by name."""
    placed, found = _placed(root), defaultdict(list)
    images = {file.stem for file, (role, *_) in placed.items() if role == "image"}
    for file, (role, *_) in placed.items():
        word = re.sub("[^a-z]", "", file.parent.name.lower())
        if role is None and file.parent != root and _MAYBE.search(word):
            found[file.parent].append(file.stem in images)
    named = any(role == "mask" for role, *_ in placed.values())
    return [] if named else [folder for folder, met in found.items() if 2 * sum(met) > len(met)]


def split_of(folder: str) -> str:
    """The split that a folder's name tells: train, validation, test or none, ""."""
    match = _FOLDER.fullmatch(re.sub("[^a-z]", "", folder.lower()))
    word = (match["a"] or match["z"] or "") if match else ""
    starts = {"v": "validation", "tr": "train", "t": "test"}
    return next((split for start, split in starts.items() if word.startswith(start)), "")


def natural(text: str) -> tuple[list, str]:
    """A key that sorts by the numbers within names: f9 before f10."""
    parts = re.split(r"(\d+)", text)  # Text and number in turn: like meets like.
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


def _placed(root: Path) -> dict[Path, tuple[str | None, str, tuple[str, ...]]]:
    """Role (image, mask or None), split and further folders of each picture not hidden."""
    placed = {}
    for file in sorted(files_below(root), key=lambda file: natural(str(file))):
        parts, role, split, rest = file.relative_to(root).parts, None, "", []
        if file.suffix.lower() not in SUFFIXES:
            continue
        for part in parts[:-1]:
            match = _FOLDER.fullmatch(letters := re.sub("[^a-z]", "", part.lower()))
            if letters and match:
                role = "mask" if match["mask"] else "image" if match["image"] else role
                split = split_of(part) or split
            else:
                rest.append(part)
        placed[file] = role, split, tuple(rest)
    return placed | _beside_masks(placed)


def _beside_masks(placed: Mapping) -> dict[Path, tuple[str, str, tuple[str, ...]]]:
    """Pictures in the only folder of no known word, where it holds most of the masks' names.

    Empty where others beside it hold some, and where its own name tells of masks: no_mask/ beside
    mask/ is a class.
    """
    known = {part for role, _, rest in placed.values() if role for part in rest}
    words = {part for *_, rest in placed.values() for part in rest} - known
    if {role for role, *_ in placed.values()} != {"mask", None} or len(words) != 1:
        return {}
    (word,) = words
    if re.search(f"{_MAYBE.pattern}|seg", word.lower()):
        return {}
    keys = {
        file: (split, tuple(part for part in rest if part != word), _unpadded(file.stem))
        for file, (_, split, rest) in placed.items()
    }
    within = {file for file, (*_, rest) in placed.items() if word in rest}
    beside = {file for file, (role, *_) in placed.items() if not role} - within
    masks = {keys[file] for file, (role, *_) in placed.items() if role}
    met, near = (len(masks & {keys[file] for file in some}) for some in (within, beside))
    return {} if near or 2 * met <= len(masks) else {f: ("image", *keys[f][:2]) for f in within}
