"""What the values of a folder's masks mean: ids, gapped ids, 0 and 255, a palette, or colours.

A table of classes beside the data decides; without one, the values that fill areas are the classes.
Where most masks are in colour, one with a palette is read by the colours that it shows.
A value that hardly ever fills a square of 2x2 px is stray: an anti-aliased edge, or JPEG's noise.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.folders.tables import read_table, written
from zoo.data.images import read_image, read_mask

MOST_COLOURS = 32  # That are taken for classes without a table.
SOLID = 0.05  # Of a value's pixels begin a 2x2 square of it, or it is stray; of areas nearly all.
SELDOM = 0.01  # Share of all pixels up to which 255 may be void though it seldom meets other ids.
REMEDY = "redraw them, or list what is meant in a classes.csv (name,id or name,r,g,b) in the folder"
_VOID = re.compile(r"(?i)void|unlabell?ed|ignored?|don'?t ?care|unknown")
_RGB = np.array([1 << 16, 1 << 8, 1], np.int32)
Palette = Mapping[int, int]  # 0xRRGGBB of a mask's values, where its file has a palette.


class Seen(NamedTuple):
    """One mask: its values, and how many of each begin a 2x2 square."""

    size: tuple[int, int]  # (h, w).
    pixels: Mapping[int, int]
    solid: Mapping[int, int]
    coloured: bool  # Values are 0xRRGGBB.
    palette: Palette  # Of these values.


class Meaning(NamedTuple):
    """The classes of a folder and how its masks tell them."""

    names: tuple[str, ...]
    colours: tuple[int | None, ...]  # 0xRRGGBB, where the folder tells.
    ids: Mapping[int, int]  # The class of a mask's value; 255 is void.
    coloured: bool
    rule: str  # How it was decided, in words.
    why: str  # A value stands for none.

    def own(self, values: Collection[int], coloured: bool, palette: Palette) -> list[int]:
        """The ids of one mask's values, -1 where they have none; grey may stand among colours."""
        shown = _shown(values, coloured, palette) if self.coloured else values
        return [-1 if coloured > self.coloured else self.ids.get(v, -1) for v in shown]

    def wrong(self, values: Collection[int], coloured: bool, palette: Palette) -> str:
        """What is wrong with one mask's values, in words; empty where nothing is."""
        ids = self.own(values, coloured, palette)
        shown = _shown(values, coloured, palette) if self.coloured else values
        told = (written(v, coloured or self.coloured) for v in shown)
        bad = [text for text, i in zip(told, ids, strict=True) if i < 0]
        some = ", ".join(bad[:8]) + ", ..." * (len(bad) > 8)
        why = "the other masks hold ids" if coloured > self.coloured else self.why
        return f"holds {len(bad)} stray value(s), {some}: {why}" if bad else ""


def read_values(path: Path) -> tuple[np.ndarray, bool, Palette]:
    """[h, w] int32 ids, or 0xRRGGBB of a mask in colour, and which; its palette, where it has one.

    ValueError as `read_mask`.
    """
    try:
        values = read_mask(path).astype(np.int32)
        with Image.open(path) as image:
            rgb = np.reshape(image.getpalette("RGB") if image.mode == "P" else (), (-1, 3))
        return values, False, dict(enumerate((rgb.astype(np.int32) @ _RGB).tolist()))
    except ValueError as error:
        if "has the mode" not in str(error):
            raise
    rgb = read_image(path, 3).astype(np.int32)
    coloured = bool((rgb != rgb[..., :1]).any())
    return rgb @ _RGB if coloured else rgb[..., 0], coloured, {}


def look(path: Path) -> Seen:
    """Counts the values of one mask; ValueError as `read_values`."""
    values, coloured, palette = read_values(path)
    corner = values[:-1, :-1]
    square = (corner == values[1:, 1:]) & (corner == values[1:, :-1]) & (corner == values[:-1, 1:])
    counts = [np.unique(v, return_counts=True) for v in (values, corner[square])]
    pixels, solid = (dict(zip(v.tolist(), n.tolist(), strict=True)) for v, n in counts)
    palette = {v: palette[v] for v in pixels if v in palette}
    return Seen(values.shape, pixels, solid, coloured, palette)


def _shown(values: Collection[int], coloured: bool, palette: Palette) -> list[int]:
    """0xRRGGBB of one mask's values, by its palette or as grey where they are not colours."""
    return [v if coloured else palette.get(v, v * 0x010101) for v in values]


def understand(seen: Mapping[Path, Seen], table: Path | None = None) -> Meaning:
    """Decides what the masks' values stand for.

    255 beside ids 0..n (or 1..n, or a palette's) is void, but beside one other value a class.
    ValueError for a faulty table, palettes that differ, one class only, too many colours, and a 255
    that is void by some masks and a class by others.
    """
    votes = [one.coloured for one in seen.values() if one.pixels.keys() - {0}]
    coloured = 2 * sum(votes) > len(votes)
    pixels, solid, palette = Counter(), Counter(), {}
    for path, one in seen.items():
        for total, counts in ((pixels, one.pixels), (solid, one.solid)) * (
            one.coloured <= coloured
        ):
            shown = _shown(counts, one.coloured, one.palette) if coloured else counts
            for v, n in zip(shown, counts.values(), strict=True):  # Two may be of one colour.
                total[v] += n
        for v, rgb in {} if coloured else one.palette.items():
            if palette.setdefault(v, rgb) != rgb:
                what = f"{path} shows {v} as #{rgb:06x}, another mask as #{palette[v]:06x}"
                raise ValueError(f"{what}: palettes differ, so indices mean nothing; save as RGB.")
    if rows := read_table(table, coloured) if table else {}:
        why, rule = f"{table.name} does not list it", f"by {table.name}"
        _check_palette(table, rows, palette)
        void = {v for v, (name, _) in rows.items() if _VOID.fullmatch(name)}
        void |= {255} - rows.keys() if not coloured else set()
        if pixels.keys() - rows.keys() and sum(v in pixels for v in rows.keys() - void) < 2:
            held = ", ".join(written(v, coloured) for v in sorted(pixels)[:8])
            what = f"The masks hold {held}, fewer than two classes of {table}"
            raise ValueError(f"{what}; list the values that they hold.")
    else:
        void: set[int] = set()
        why, rule = "an anti-aliased or compressed edge?", "by the values found"
        others, low = sorted(pixels.keys() - {255}), int(0 not in pixels)
        stray = {v for v in others if v and solid[v] < SOLID * pixels[v]}
        run = others == list(range(low, low + len(others)))
        # A class may be a line, 1 px wide: of two values no one is stray, nor few among 0..n.
        if len(pixels) > 2 and not (run and 2 * len(stray) <= len(pixels)):
            others, run = [v for v in others if v not in stray], run and not stray
        if not coloured and 255 in pixels and len(others) > 1 and (run or palette):
            if stray >= {*others[1:]} and sum(pixels[v] for v in others[1:]) < pixels[255]:
                others = others[:1]  # Specks beside a class drawn as 255.
            else:
                _check_void(seen, pixels, others)
        if not coloured and 255 in pixels and len(others) > 1 and (run or palette):
            void, rule = {255}, f"{rule}; 255 is void beside the ids {others[0]}..{others[-1]}"
        found = sorted({*others, *(pixels.keys() & {255})})
        colours = {v: v for v in found} if coloured else palette
        rows = {v: (f"class {written(v, coloured)}", colours.get(v)) for v in found}
    classes = [v for v in rows if v not in void]
    if len(classes) < 2 or len(classes) > (MOST_COLOURS if coloured and not table else 255):
        what = f"The masks hold {len(classes)} classes {rule} ({len(pixels)} values in all)"
        raise ValueError(f"{what}; {REMEDY}.")
    names, colours = zip(*(rows[v] for v in classes), strict=True)
    ids = dict.fromkeys(void, 255) | {v: i for i, v in enumerate(classes)}
    return Meaning(names, colours, ids, coloured, rule, why)


def _check_palette(table: Path, rows: Mapping, palette: Mapping[int, int]) -> None:
    """Raises ValueError where the masks' own colours tell other ids than the table's rows."""
    listed = defaultdict(list)  # Several rows may be of one colour.
    for v, (_, rgb) in rows.items():
        listed[rgb].append(v)
    for v, rgb in palette.items():
        if v in rows and (places := listed.get(rgb)) and v not in places:
            what = f"{table} has {rows[places[0]][0]!r} (#{rgb:06x}) in the place of {places[0]}"
            hint = "give rows of name,id,r,g,b with the ids of the palette"
            raise ValueError(f"{what}, but the palette of the masks at {v}; {hint}.")


def _check_void(seen: Mapping[Path, Seen], pixels: Mapping[int, int], others: list[int]) -> None:
    """Raises ValueError where 255 may be a class of some masks and not the void of all."""
    holding = {path: one.pixels for path, one in seen.items() if 255 in one.pixels}
    alone = [path for path, held in holding.items() if len(held) < 3]
    beside = [path for path in holding if path not in alone]
    few = pixels[255] < min(SELDOM * sum(pixels.values()), *(pixels[v] for v in others))
    if len(beside) >= len(alone) or (beside and few):
        return
    counts = {path: sum(one.pixels.get(v, 0) for v in others[1:]) for path, one in seen.items()}
    odd = {path: n for path, n in counts.items() if n}
    path, ids = min(odd, key=odd.get), f"{others[1]}" + f"..{others[-1]}" * (len(others) > 2)
    raise ValueError(
        f"The masks disagree: {len(alone)} hold 255 and at most one other value, as {alone[0]}, so "
        f"255 is a class, but {len(odd)} hold the ids {ids}, as {path} in {odd[path]} px, so 255 "
        "would be void; redraw some, or list which ids are classes in a classes.csv (name,id)."
    )
