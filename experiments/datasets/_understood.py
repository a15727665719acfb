"""What a folder of pictures was understood to be: sizes, and classes, mapping and splits of masks.

Every file is read for it, but once: what was found is kept in $ZOO_CACHE.
"""

import colorsys
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.folders.duplicates import mark, near_pairs
from experiments.folders.layouts import Pair
from experiments.folders.meanings import REMEDY, Meaning, look, read_values, understand
from experiments.folders.spacing import spacing
from experiments.folders.splits import grouped, split_pictures
from experiments.folders.tables import written
from zoo.data.images import read_image, write_atomically

RULES = 7  # Counted up when these change, as what is kept was found by them.
SAMPLE = 16  # Masks in which spacing is measured.


def understood(
    root: Path,
    layout: str,
    by_split: Mapping[str, Sequence[Pair]],
    table: Path | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The facts of a folder of pictures and masks, as JSON.

    Raises ValueError for the first picture or mask that is unreadable, of unequal size or holds
    stray values, for masks that tell no classes, and for too few pictures.
    """
    files = [file for pairs in by_split.values() for pair in pairs for file in pair]
    # A list may move a picture to another split and leave every file as it is.
    placed = {s: [i.relative_to(root).as_posix() for i, _ in some] for s, some in by_split.items()}
    known = [*files, *filter(None, [table])]

    def source(options: Mapping[str, Any]) -> list:
        return [str(root.resolve()), layout, placed, sorted(options.items())]

    facts = _kept(known, source(options), lambda: _facts(root, layout, by_split, table, options))
    # The plan settles the channels that are found here, and training asks with them.
    _kept(known, source({**options, "channels": facts["channels"]}), lambda: facts)
    return {"folder": str(root), **facts}  # As it is called here: by a link, or from elsewhere.


def looked(files: Sequence[Path]) -> dict[str, Any]:
    """Sizes of pictures, their channels, and the places of those nearly the same, as JSON.

    Raises ValueError for the first that is unreadable.
    """
    return _kept(files, [], lambda: _looks(files))


def _kept(files: Sequence[Path], source: Sequence, find: Callable[[], dict]) -> dict[str, Any]:
    """What `find` finds in files, or found in them before."""
    stats = [
        (os.path.abspath(f), str(f.resolve()), (s := f.stat()).st_size, s.st_mtime_ns)
        for f in files
    ]
    text = json.dumps([RULES, stats, *source])
    cache = Path(os.environ.get("ZOO_CACHE") or "~/.cache/zoo").expanduser() / "folders"
    kept = cache / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    try:
        return json.loads(kept.read_text("utf-8"))
    except (OSError, ValueError):  # Not yet there, or damaged: found out anew.
        facts = find()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, lambda file: file.write(json.dumps(facts).encode()))
    except OSError as error:
        hint = "the environment variable ZOO_CACHE names the folder of what is kept"
        raise ValueError(f"{kept} cannot be written ({error.strerror}); {hint}.") from error
    return facts


def _looks(files: Sequence[Path]) -> dict[str, Any]:
    marks, sizes, grey = [], [], True
    for file in files:
        pixels = read_image(file, 3)
        grey = grey and bool((pixels == pixels[..., :1]).all())
        marks.append(mark(pixels))
        sizes.append(pixels.shape[:2])
    near = [(i, j) for i, j, _ in near_pairs(marks)]
    return {**_sizes(sizes), "channels": 1 if grey else 3, "near": near}


def _sizes(sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Real pictures but for the median, which is of each side, and whether some stand and some lie.

    Of several with the most pixels the commonest is the largest.
    """
    counts = Counter(sizes)
    wide, high = sum(w > h for h, w in sizes), sum(h > w for h, w in sizes)
    shapes = f"{wide} are wider than high and {high} higher than wide"
    return {
        "sizes": {
            "smallest": list(min(counts, key=math.prod)),
            "median": np.median(sizes, 0).astype(int).tolist(),
            "largest": list(max(counts, key=lambda size: (math.prod(size), counts[size]))),
        },
        "shapes": shapes if wide and high else "",
    }


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
    levels = np.arange(256) / 255
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
        if options["channels"] == 1:
            pixels = np.repeat(read_image(image, 1), 3, -1)
        counts = [np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)]
        moments[name] = np.stack([np.ones(256), levels, levels**2]) @ np.stack(counts, 1)
    meaning = understand(seen, table)
    for mask, one in seen.items():
        if wrong := meaning.wrong([*one.pixels], one.coloured, one.palette):
            raise ValueError(f"The mask {mask} {wrong}; {REMEDY}.")
    names = list(pairs)
    groups = grouped(names, [(i, j) for i, j, _ in near_pairs(marks)], options["group"])
    shares = (options[o] for o in ("validation_share", "test_share", "split_seed"))
    splits, rule = split_pictures({n: pairs[n][0] for n in names}, groups, *shares)
    count, total, squares = sum(moments[n] for n in splits["train"])
    channels = options["channels"] or (1 if grey else 3)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-4))  # Pictures of one colour have none.
    classes = _classes(meaning, seen.values())
    return {
        "layout": layout,
        "pictures": len(pairs),
        **_sizes(sizes),
        "spacing": _spacing(meaning, seen, [pairs[n][2] for n in splits["train"]]),
        "channels": channels,
        "mean": mean[:channels].round(4).tolist(),
        "std": std[:channels].round(4).tolist(),
        "masks": "colours" if meaning.coloured else "ids",
        "rule": meaning.rule,
        "classes": classes,
        "mapping": {str(v): i for v, i in meaning.ids.items()},
        "split_rule": rule,
        "splits": splits,
    }


def _spacing(meaning: Meaning, seen: Mapping, masks: Sequence[Path]) -> dict[str, float | None]:
    """Of what is not of the commonest class in some masks, see `spacing`.

    The side that nine of ten objects keep within, and the gap of the median object.
    """
    shares = _pixels(meaning, seen.values())
    common = max(range(len(meaning.names)), key=lambda i: shares[i])
    found = []
    for mask in masks[:: math.ceil(len(masks) / SAMPLE)]:
        values, *how = read_values(mask)
        which, places = np.unique(values, return_inverse=True)
        ids = np.array(meaning.own(which.tolist(), *how))[places].reshape(values.shape)
        found.append(spacing(np.where((ids == common) | (ids == 255), -1, ids)))
    sides, gaps = ([x for one in found for x in one[k]] for k in (0, 1))
    return {
        "object": round(float(np.percentile(sides, 90)), 1) if sides else None,
        "gap": round(float(np.median(gaps)), 1) if gaps else None,
    }


def _pixels(meaning: Meaning, seen: Iterable) -> Counter:
    pixels: Counter = Counter()
    for one in seen:
        ids = meaning.own([*one.pixels], one.coloured, one.palette)
        for i, n in zip(ids, one.pixels.values(), strict=True):
            pixels[i] += n
    return pixels


def _classes(meaning: Meaning, seen: Iterable) -> list[dict[str, Any]]:
    """Of each class its name, colour, values in the masks and share of the labelled pixels."""
    pixels = _pixels(meaning, seen)
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


def described(facts: Mapping[str, Any]) -> str:
    """Number, kind, size and shapes of the pictures, in words."""
    low, _, high = (f"{w}x{h}" for h, w in facts["sizes"].values())
    size = low if low == high else f"{low} to {high}"
    shapes = f", of which {facts['shapes']}" * bool(facts["shapes"])
    kind = "grey" if facts["channels"] == 1 else "RGB"
    return f"{facts['pictures']} {kind} pictures of {size} px{shapes}"


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts in a few lines, for people."""
    named = [
        f"{c['value']} -> {i} {c['name']} ({100 * c['share']:.3g} %)"
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
        f"{facts['folder']}: {described(facts)}; {facts['layout']}",
        f"{len(named)} classes {facts['rule']}: {', '.join(named[:12])}{more}; "
        f"void: {', '.join(void) or 'none'}",
        f"split {facts['split_rule']}: {counts}",
    ]
