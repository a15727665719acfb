"""A table of classes beside the data: which value of a mask has which name and colour."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from experiments.folders.layouts import read_text

_TABLE = re.compile(
    r"(?i)_?(?:class(?:es|_?names?|_dict)?|label_?(?:map|s|_?colors)|colou?r_?(?:s|map)|palette"
    r"|codes|dataset)\.(?:csv|txt|json)"
)
# Numbers, a name, numbers; the last ones after more than a blank, which may belong to the name.
_ROW = re.compile(
    r"((?:\d+[\s,;:=|]+)*)(.*?)((?:\s*[,;:=|\t][\s,;:=|]*\d+(?:[\s,;:=|]+\d+)*)?)[\s,;:=|]*"
)
_BLANK = re.compile(r"(\D.*?)((?: +\d+)+)")
_HEAD = re.compile(r"(?i)[,;:=|\t]|name|class|label|\bid\b|value|index|categor")


def written(value: int, coloured: bool) -> str:
    """A mask's value as a person writes it."""
    return f"#{value:06x}" if coloured else str(value)


def find_table(root: Path, masks: Collection[Path]) -> Path | None:
    """The table of classes in the folder, beside the masks or above them, if there is one."""
    folders = {root, *(f for mask in masks for f in mask.parents if f.is_relative_to(root))}
    files = [f for folder in sorted(folders) for f in sorted(folder.glob("*.*"))]
    found = (f for f in files if _TABLE.fullmatch(f.name))  # nnU-Net's dataset.json has labels.
    return next((f for f in found if f.stem != "dataset" or '"labels"' in read_text(f)), None)


def read_table(path: Path, coloured: bool) -> dict[int, tuple[str, int | None]]:
    """{value of a mask: (name, 0xRRGGBB or None)}, in order.

    A row is a name with an id, a colour, both (the id first) or neither, as its place is then its
    id. Empty where colours are wanted and it has none. ValueError for what is no such table.
    """
    table: dict[int, tuple[str, int | None]] = {}
    try:
        text = path.read_text("utf-8-sig")
        lines = _rows(json.loads(text)) if path.suffix == ".json" else text.splitlines()
        for i, (name, numbers) in enumerate(_named(lines)):
            rgb = int.from_bytes(bytes(numbers[-3:]), "big") if len(numbers) > 2 else None
            value = numbers[0] if len(numbers) in (1, 4) else i
            if len(numbers) not in (0, 1, 3, 4) or (not coloured and value > 255):
                raise ValueError(f"the row of {name!r} has the numbers {numbers}")
            if not coloured or rgb is not None:
                key = rgb if coloured else value
                if table.setdefault(key, (name, rgb)) != (name, rgb):
                    twice = f"{table[key][0]!r} and {name!r} are both {written(key, coloured)}"
                    raise ValueError(f"{twice}, and a mask cannot tell them apart")
    except (ValueError, AttributeError, TypeError) as error:
        problem = f"The table of classes {path} cannot be read ({error})"
        raise ValueError(f"{problem}; give rows of name,id or name,r,g,b.") from error
    return table


def _named(lines: Collection[str]) -> list[tuple[str, list[int]]]:
    """Name and numbers of each row but the head; numbers after a blank may belong to the names."""
    texts = [text for line in lines if line[:1] != "#" and (text := line.replace('"', "").strip())]
    parts = [_ROW.fullmatch(text).groups() for text in texts]
    if not any(lead or trail for lead, _, trail in parts):
        head = texts and not _BLANK.fullmatch(texts[0]) and bool(_HEAD.search(texts[0]))
        found = [_BLANK.fullmatch(text) for text in texts[head:]]
        # "road 1, car 2" are ids; "type 1, type 2" and "sky, type 1" are names.
        if all(found) and all(len({m[k] for m in found}) == len(found) for k in (1, 2)):
            parts = [("", match[1], match[2]) for match in found]
    rows = [(n, [int(d) for d in re.findall(r"\d+", lead + trail)]) for lead, n, trail in parts]
    if len(rows) > 1 and not rows[0][1] and rows[1][1] and _HEAD.search(texts[0]):
        del rows[0]
    if bare := [name for name, numbers in rows if not numbers and rows[0][1]]:
        raise ValueError(f"the row of {bare[0]!r} has no number, others have")
    return rows


def _rows(data: Any) -> list[str]:
    """The rows of a table in JSON: a list, or a dict by name or id."""
    if isinstance(data, dict):
        data = next((data[k] for k in ("labels", "classes", "categories") if k in data), data)
    return [",".join(_flat(row)) for row in (data.items() if isinstance(data, dict) else data)]


def _flat(value: Any) -> list[str]:
    parts = value.values() if isinstance(value, dict) else value
    nested = isinstance(value, dict | list | tuple)
    return [text for part in parts for text in _flat(part)] if nested else [str(value)]
