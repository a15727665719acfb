"""Folders of classes: ROOT/class/picture or ROOT/split/class/picture."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from experiments.folders.layouts import (
    SUFFIXES,
    Fault,
    find_pairs,
    like_masks,
    misnamed,
    natural,
    roles,
    split_of,
)
from zoo.data.images import files_below


class ClassFolders(NamedTuple):
    """What was found; no classes where the folder is one of pictures and masks, or of none."""

    files: dict[tuple[str, str], list[Path]]  # By split, "" for none, and class; in numeric order.
    faults: list[Fault]
    aside: str  # What was not taken, in words; empty where everything was.


def class_folders(root: Path) -> ClassFolders:
    """Raises OSError for a folder that is missing or unreadable."""
    tops = [folder for folder in visible(root) if folder.is_dir()]
    if not tops or signs_of_masks(root):
        return ClassFolders({}, [], "")
    files, faults, splits = {}, [], {split_of(folder.name) for folder in tops}
    # ROOT/train/class and ROOT/val/class: the splits are given.
    given = len(splits - {""}) > 1
    within = given or ("" not in splits and any(f.is_dir() for top in tops for f in visible(top)))
    for top in tops:
        if within and not split_of(top.name):
            what, remedy = "lies beside folders of splits", "move it into one of them"
            faults.append(Fault("class", top, what, remedy))
            continue
        for folder in filter(Path.is_dir, visible(top)) if within else (top,):
            held = [file for file in visible(folder) if _is_picture(file)]
            deep = [f for f in files_below(folder) if f.parent != folder and _is_picture(f)]
            key = split_of(top.name) * given, folder.name
            if key in files:
                what = f"is {folder.name} of {key[0]}, as another folder is"
                faults.append(Fault("class", folder, what, "move all its pictures into one"))
            files[key] = files.get(key, []) + held
            if deep:
                what = f"holds {len(deep)} picture(s) in folders within, as {deep[0]}"
                remedy = "move them up to it, or make a class of each of these folders"
                faults.append(Fault("class", folder, what, remedy))
            elif len(held) < 2:
                what = f"is of {folder.name}, a class of {len(held)} picture(s), and two are needed"
                remedy = "add some, or take the folder away"
                faults.append(Fault("class", held[0] if held else folder, what, remedy))
    for split, name in (("train", "train"), ("validation", "val")) if given else ():
        if split not in splits:
            remedy = f"add {name}/ with folders of classes, or lay all classes side by side"
            faults.append(Fault("class", root, f"gives splits, but no {split}", remedy))
    if not any(files.values()) and not any("within" in fault.what for fault in faults):
        return ClassFolders({}, [], "")
    for split in ("train", "validation") if given else ("",):
        if len(alone := [some for (of, _), some in files.items() if of == split]) == 1 and alone[0]:
            what = f"is the only class{' of' * bool(split)} {split}".rstrip()
            what, remedy = f"{what}, and it takes two to tell apart", "add another"
            faults.append(Fault("class", alone[0][0].parent, what, remedy))
    taken = {file for some in files.values() for file in some}
    faults += misnamed(root, taken)
    left = Counter(f.suffix.lower() for f in files_below(root) if f not in taken)
    named = ", ".join(f"{n} {suffix or 'without ending'}" for suffix, n in sorted(left.items()))
    return ClassFolders(files, faults, f"left aside: {named}" if named else "")


def signs_of_masks(root: Path) -> str:
    """What tells that a folder is of pictures and masks, or of one of them; empty where it is none.

    Names of files do so where as many pictures have a mask as have none: front_label.jpg may be one
    more picture beside front.jpg.
    """
    found = roles(root)
    if found.keys() in ({"mask"}, {"image"}) or {"image", "mask"} <= found.keys():
        return " and ".join(f"{file} lies among {role}s" for role, file in found.items() if role)
    if folders := like_masks(root):
        return f"{folders[0]} has a mask's name and the files of a folder of images"
    try:
        _, pairs, faults = find_pairs(root)
    except ValueError:
        return ""
    every = [pair for some in pairs.values() for pair in some]
    if "mask" not in found and len(every) < sum(fault.kind == "unmatched" for fault in faults):
        return ""
    return f"{every[0][1]} has the name of a mask of {every[0][0].name}"


def visible(folder: Path) -> list[Path]:
    """What a folder holds, without hidden files, in numeric order."""
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    return sorted(files, key=lambda file: natural(file.name))


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()
