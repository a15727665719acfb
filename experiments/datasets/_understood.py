"""What a folder of pictures and masks was understood to be: sizes, classes, mapping and splits."""

import colorsys
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets._chosen import SPLITS, split_by_hash
from experiments.folders.duplicates import mark, near_pairs
from experiments.folders.layouts import Pair
from experiments.folders.meanings import REMEDY, Meaning, look, understand, written
from zoo.data.images import read_image, write_atomically

RULES = 1  # Counted up when these change, as what is kept was found by them.


def understood(
    root: Path,
    layout: str,
    by_split: Mapping[str, Sequence[Pair]],
    table: Path | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The folder's facts as JSON; every file is read, but once: they are kept in $ZOO_CACHE.

    Raises ValueError for the first picture or mask that is unreadable, of unequal size or holds
    stray values, for masks that tell no classes, and for too few pictures.
    """
    files = [file for pairs in by_split.values() for pair in pairs for file in pair]
    stats = [
        (str(f), (s := f.stat()).st_size, s.st_mtime_ns) for f in [*files, *filter(None, [table])]
    ]
    source = json.dumps([RULES, str(root.resolve()), stats, sorted(options.items())])
    cache = Path(os.environ.get("ZOO_CACHE") or "~/.cache/zoo").expanduser() / "folders"
    kept = cache / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"
    try:
        return json.loads(kept.read_text("utf-8"))
    except (OSError, ValueError):  # Not yet there, or damaged: found out anew.
        facts = _facts(root, layout, by_split, table, options)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, lambda file: file.write(json.dumps(facts).encode()))
    except OSError as error:
        hint = "the environment variable ZOO_CACHE names the folder of what is kept"
        raise ValueError(f"{kept} cannot be written ({error.strerror}); {hint}.") from error
    return facts


def _facts(
    root: Path, layout: str, by_split: Mapping, table: Path | None, options: Mapping
) -> dict[str, Any]:
    pairs = {
        image.relative_to(root).as_posix(): (split, image, mask)
        for split, some in by_split.items()
        for image, mask in some
    }
    if len(pairs) < 2:
        problem = f"{root} holds one picture with a mask, and one cannot both train and validate"
        raise ValueError(f"{problem}: add some.")
    seen, marks, moments, sizes, grey = {}, [], {}, [], True
    for name, (_, image, mask) in pairs.items():
        pixels, seen[mask] = read_image(image, 3), look(mask)
        if pixels.shape[:2] != seen[mask].size:
            own, other = (f"{w}x{h} px" for h, w in (seen[mask].size, pixels.shape[:2]))
            raise ValueError(
                f"The mask {mask} is {own}, but its image {image} {other}: make them equal."
            )
        grey = grey and bool((pixels == pixels[..., :1]).all())
        marks.append(mark(pixels))
        sizes.append(pixels.shape[:2])
        part = pixels.reshape(-1, 3) / 255
        moments[name] = np.stack([np.full(3, len(part)), part.sum(0), np.square(part).sum(0)])
    meaning = understand(seen, table)
    for mask, one in seen.items():
        if wrong := meaning.wrong([*one.pixels], one.coloured):
            raise ValueError(f"The mask {mask} {wrong}; {REMEDY}.")
    names = list(pairs)
    groups = grouped(names, [(i, j) for i, j, _ in near_pairs(marks)], options["group"])
    splits, rule = _splits({n: pairs[n][0] for n in names}, groups, options)
    count, total, squares = sum(moments[n] for n in splits["train"])
    channels = slice(0, 1) if grey else slice(0, 3)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-4))  # Pictures of one colour have none.
    classes = _classes(meaning, seen.values())
    return {
        "folder": str(root),
        "layout": layout,
        "pictures": len(pairs),
        "sizes": {
            "smallest": np.min(sizes, 0).tolist(),
            "median": np.median(sizes, 0).astype(int).tolist(),
            "largest": np.max(sizes, 0).tolist(),
        },
        "channels": 1 if grey else 3,
        "mean": mean[channels].round(4).tolist(),
        "std": std[channels].round(4).tolist(),
        "masks": "colours" if meaning.coloured else "ids",
        "rule": meaning.rule,
        "classes": classes,
        "mapping": {str(v): i for v, i in meaning.ids.items()},
        "split_rule": rule,
        "splits": splits,
    }


def _classes(meaning: Meaning, seen: Iterable) -> list[dict[str, Any]]:
    """Of each class its name, colour, values in the masks and share of the labelled pixels."""
    pixels: Counter = Counter()
    for one in seen:
        ids = meaning.own([*one.pixels], one.coloured)
        for i, n in zip(ids, one.pixels.values(), strict=True):
            pixels[i] += n
    colours = list(meaning.colours)
    if None in colours or len({*colours}) < len(colours):  # Black, then hues.
        hues = (colorsys.hsv_to_rgb(i / (len(colours) - 1), 0.8, 0.9) for i in range(len(colours)))
        rgbs = [bytes(round(255 * c) for c in hue) for hue in hues]
        colours = [0, *(int.from_bytes(rgb, "big") for rgb in rgbs[:-1])]
    labelled = max(1, sum(n for i, n in pixels.items() if i != 255))
    values = {i: written(v, meaning.coloured) for v, i in meaning.ids.items()}
    return [
        {
            "name": name,
            "colour": list(colours[i].to_bytes(3, "big")),
            "value": values[i],
            "share": round(pixels[i] / labelled, 6),
        }
        for i, name in enumerate(meaning.names)
    ]


def grouped(
    names: Sequence[str], together: Iterable[tuple[int, int]], pattern: str
) -> dict[str, str]:
    """The first name of each name's group, joined by pairs of places or by a pattern's finding."""
    first = list(range(len(names)))

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i] = first[first[i]]
        return i

    by_finding: dict[str, int] = {}
    for i, name in enumerate(names if pattern else ()):
        if match := re.search(pattern, name):
            together = [*together, (by_finding.setdefault(match[0], i), i)]
    for i, j in together:
        low, high = sorted((root(i), root(j)))
        first[high] = low
    return {name: names[root(i)] for i, name in enumerate(names)}


def _splits(
    given: Mapping[str, str], groups: Mapping[str, str], options: Mapping
) -> tuple[dict[str, list[str]], str]:
    """Names by split and how it came, in words; `given` tells the folder's own, "" for none."""
    told = {s: [n for n in given if given[n] == s] for s in SPLITS}
    told = {s: names for s, names in told.items() if names}
    pool = [n for n in given if given[n] in ("", "train")]
    if not pool:
        raise ValueError(f"The folder has {' and '.join(told)}, but nothing to train with; add it.")
    shares = [0.0 if s in told else options[f"{s}_share"] for s in ("validation", "test")]
    if not any(shares):
        return {**told, "train": pool}, "as the folders give it"
    firsts = list(dict.fromkeys(groups[n] for n in pool))
    needed = 1 + sum(share > 0 for share in shares)
    if len(firsts) < needed:
        what = f"{len(pool)} pictures are {len(firsts)} group(s) of near-duplicates or one name"
        raise ValueError(
            f"{what}, too few for {needed} splits: add others, or give train/ and val/."
        )
    drawn = split_by_hash(firsts, *shares)
    splits = {s: [n for n in pool if drawn[groups[n]] == s] for s in SPLITS}
    rule = f"by a hash of names, {len(pool)} pictures in {len(firsts)} groups that stay together"
    kept = " and ".join(s for s in told if s != "train")
    rule += f"; {kept} as the folder gives" * bool(kept)
    return {s: told.get(s, []) if s != "train" and s in told else splits[s] for s in SPLITS}, rule


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts in a few lines, for people."""
    low, _, high = (f"{w}x{h}" for h, w in facts["sizes"].values())
    size = low if low == high else f"{low} to {high}"
    kind = "grey" if facts["channels"] == 1 else "RGB"
    named = [
        f"{c['value']} -> {i} {c['name']} ({100 * c['share']:.2g} %)"
        for i, c in enumerate(facts["classes"])
    ]
    more = f" and {len(named) - 12} more" if len(named) > 12 else ""
    void = [
        written(int(v), facts["masks"] == "colours")
        for v, i in facts["mapping"].items()
        if i == 255
    ]
    counts = ", ".join(f"{split} {len(names)}" for split, names in facts["splits"].items() if names)
    return [
        f"{facts['folder']}: {facts['pictures']} {kind} pictures of {size} px; {facts['layout']}",
        f"{len(named)} classes {facts['rule']}: {', '.join(named[:12])}{more}; "
        f"void: {', '.join(void) or 'none'}",
        f"split {facts['split_rule']}: {counts}",
    ]
