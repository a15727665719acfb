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
_CELL = re.compile(r'"([^"]*)"|([^",;:=|\t]+)')
_DIGITS = re.compile(r"((?:\d+(?:\s+|$))*)(.*)")  # Of a cell, and the name behind them.
_HEX = re.compile(r"#([0-9a-fA-F]{6})\b")
_BLANK = re.compile(r"(\D.*?)((?: +\d+)+)")
_HEAD = re.compile(r"(?i)[,;:=|\t]|name|class|label|\bid\b|value|index|categor")
# A cell that is the head of names even where no row has a number. A class of such a name that leads
# a list is rarer, and taken for a head it leaves an id of the masks unlisted, which is refused.
_TITLE = re.compile(
    r"(?i)(?:(?:class|label|category)[ _-]?)?(?:names?|class(?:es)?|labels?|categor(?:y|ies))"
)


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

    A row is a name with an id, a colour (r,g,b or #rrggbb), both (the id before r,g,b) or neither,
    as its place is then its id. A row of headings above is none. Empty where colours are wanted and
    it has none. ValueError for what is no such table.
    """
    table: dict[int, tuple[str, int | None]] = {}
    try:
        text = path.read_text("utf-8-sig")
        listed = path.suffix == ".json"
        lines = _rows(json.loads(text)) if listed else text.splitlines()
        for i, (name, numbers) in enumerate(_named(lines, headed=not listed)):
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


def _named(lines: Collection[str], headed: bool) -> list[tuple[str, list[int]]]:
    """Name and numbers of each row but the head; numbers after a blank may belong to the names."""
    texts = [t.strip() for t in lines if _CELL.search(t) and (t[0] != "#" or _HEX.match(t))]
    rows = [_row(text) for text in texts]
    if not any(numbers for _, numbers in rows):
        head = bool(texts) and not _BLANK.fullmatch(texts[0]) and bool(_HEAD.search(texts[0]))
        found = [_BLANK.fullmatch(text) for text in texts[head:]]
        # "road 1, car 2" are ids; "type 1, type 2" and "sky, type 1" are names.
        if all(found) and all(len({m[k] for m in found}) == len(found) for k in (1, 2)):
            rows[head:] = [([m[1]], [int(d) for d in m[2].split()]) for m in found]
    if len(rows) > 1 and not rows[0][1]:
        above = rows[1][1] and _HEAD.search(texts[0].replace('","', " "))
        rows = rows[1:] if above or (headed and _TITLE.fullmatch(rows[0][0][0])) else rows
    for (name, *more), numbers in rows:
        if more:
            what = f"the row of {name!r} holds {more[0]!r}, too, which is neither id nor colour"
            raise ValueError(f"{what}; a name with a comma in it goes in quotes")
        if not numbers and rows[0][1]:
            raise ValueError(f"the row of {name!r} has no number, others have")
    return [(name, numbers) for (name,), numbers in rows]


def _row(text: str) -> tuple[list[str], list[int]]:
    """The words of a row, and its numbers; those of a colour, #rrggbb, come last."""
    rgb = [v for digits in _HEX.findall(text) for v in bytes.fromhex(digits)]
    words, numbers = [], []
    for quoted, plain in _CELL.findall(_HEX.sub("\t", text)):
        digits, word = _DIGITS.fullmatch((quoted or plain).strip()).groups()
        numbers += digits.split()
        words += [word] * bool(word)
    if not words:  # A name may be a number, or a colour.
        words = [numbers.pop() if numbers else text]
    return words, [*map(int, numbers), *rgb]


def _rows(data: Any) -> list[str]:
    """The rows of a table in JSON, in quotes: of a list, or a dict by name or id."""
    if isinstance(data, dict):
        data = next((data[k] for k in ("labels", "classes", "categories") if k in data), data)
    return [
        ",".join('"{}"'.format(text.replace('"', "")) for text in _flat(row))
        for row in (data.items() if isinstance(data, dict) else data)
    ]


def _flat(value: Any) -> list[str]:
    parts = value.values() if isinstance(value, dict) else value
    nested = isinstance(value, dict | list | tuple)
    return [text for part in parts for text in _flat(part)] if nested else [str(value)]
