"""What a split holds: as the folders give it, or drawn by a hash of names.

Groups stay together: pictures that are nearly the same, and those whose names a pattern joins.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SPLITS = ("train", "validation", "test")
SHARES = (0.2, 0.3, 0.4, 0.5)  # Of validation; more where few pictures leave no pairs in it.
Places = Iterable[tuple[int, int]]  # Of names that belong together.


def split_by_hash(
    names: Sequence[str], validation: float, test: float, seed: int = 0
) -> dict[str, str]:
    """{name: split}, drawn with the shares of validation and test.

    A name's own hash, with the seed, decides, whatever others there are. Only where that leaves a
    split empty, the name whose hash is nearest goes there. Raises ValueError for shares that leave
    nothing to train with, and fewer names than splits.
    """
    edges = {"train": 0.0, "validation": 1 - validation - test, "test": 1 - test}
    if min(validation, test) < 0 or edges["validation"] < 1e-9:
        got = f"validation_share={validation} and test_share={test}"
        raise ValueError(f"{got} must be at least 0 and leave a part to train with.")
    wanted = [s for s, share in zip(SPLITS, (1, validation, test), strict=True) if share > 0]
    if len(names) < len(wanted):
        problem = f"{len(names)} classes or pictures cannot fill {', '.join(wanted)}"
        raise ValueError(f"{problem}: add some, or set validation_share or test_share to 0.")
    # Files may have names that are no text; `check` draws them, too, before they are renamed.
    salt = f"zoo/{seed}/" if seed else "zoo/"
    texts = {n: f"{salt}{n}".encode(errors="surrogateescape") for n in names}
    digests = {n: hashlib.sha256(text).digest() for n, text in texts.items()}
    draws = {n: int.from_bytes(digest[:6]) / 2**48 for n, digest in digests.items()}
    splits = {n: max(wanted, key=lambda s: (edges[s] <= u, edges[s])) for n, u in draws.items()}
    for split in wanted:
        if split not in (held := list(splits.values())):
            spare = {abs(draws[n] - edges[split]): n for n in names if held.count(splits[n]) > 1}
            splits[spare[min(spare)]] = split
    return splits


def grouped(names: Sequence[str], together: Places, pattern: str) -> dict[str, str]:
    """What stands for each name's group, joined by pairs of places or by a pattern's finding.

    Of a pattern with parentheses that is what they hold. The least finding of a group stands for
    it, so more names of it change nothing, but for a group without one its first name does.
    ValueError where the pattern joins no two names.
    """
    by_finding: dict[str, list[int]] = {}
    for i, name in enumerate(names if pattern else ()):
        if match := re.search(pattern, name):
            held = tuple(part for part in match.groups() if part is not None)
            by_finding.setdefault(" + ".join(held) if held else match[0], []).append(i)
    if pattern and not by_finding:
        what = f"group={pattern!r} is found in no path of the folder, such as {names[0]}"
        raise ValueError(f"{what}; give one that is, or data.group= for no groups.")
    joined = [(places[0], i) for places in by_finding.values() for i in places[1:]]
    if pattern and not joined:
        (finding, (first,)), *_ = by_finding.items()
        count, shown = len(by_finding), f"such as {finding!r} in {names[first]}"
        what = f"group={pattern!r} joins nothing: it finds another thing in each of {count} paths"
        hint = "put what pictures share in parentheses, as (patient[0-9]+)_slice[0-9]+"
        raise ValueError(f"{what}, {shown}; {hint}, or give data.group= for no groups.")
    together = [*together, *joined]
    rows, columns = np.array(together, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=2 * (len(names),))
    _, first, group = np.unique(
        connected_components(graph, directed=False)[1], return_index=True, return_inverse=True
    )
    stands: dict[int, str] = {}
    for finding, places in sorted(by_finding.items()):
        stands.setdefault(group[places[0]], finding)
    return {name: stands.get(k, names[first[k]]) for name, k in zip(names, group, strict=True)}


def split_pictures(
    given: Mapping[str, str],
    groups: Mapping[str, str],
    validation: float,
    test: float,
    seed: int = 0,
) -> tuple[dict[str, list[str]], str]:
    """Names by split and how it came, in words; `given` holds the folder's own, "" for none.

    Raises ValueError where there is nothing to train with, or fewer groups than splits.
    """
    fixed = {s: [n for n in given if given[n] == s] for s in SPLITS}
    fixed = {s: names for s, names in fixed.items() if names}
    pool = [n for n in given if given[n] in ("", "train")]
    if not pool:
        what = f"has {' and '.join(fixed)}, but nothing to train with"
        raise ValueError(f"The folder {what}; add train/.")
    shares = [0.0 if s in fixed else x for s, x in (("validation", validation), ("test", test))]
    if not any(shares):
        return {**fixed, "train": pool}, "as the folders give it"
    firsts = list(dict.fromkeys(groups[n] for n in pool))
    needed = 1 + sum(share > 0 for share in shares)
    if len(firsts) < needed:
        what = f"{len(pool)} pictures are {len(firsts)} group(s) of near-duplicates or one name"
        raise ValueError(
            f"{what}, too few for {needed} splits; add others, or give train/ and val/."
        )
    drawn = split_by_hash(firsts, *shares, seed)
    splits = {s: [n for n in pool if drawn[groups[n]] == s] for s in SPLITS}
    rule = f"by a hash of names, {len(pool)} pictures in {len(firsts)} groups that stay together"
    kept = " and ".join(s for s in fixed if s != "train")
    rule += f"; {kept} as the folder gives" * bool(kept)
    return {s: fixed.get(s, []) if s != "train" and s in fixed else splits[s] for s in SPLITS}, rule


def split_classes(
    classes: Mapping[str, str],
    groups: Mapping[str, str],
    validation: float,
    test: float,
    seed: int = 0,
) -> dict[str, str]:
    """{picture: split} with each class in one, and classes that share a group; see `split_by_hash`.

    `classes` holds the class of each picture.
    """
    names = list(dict.fromkeys(classes.values()))
    place = {name: i for i, name in enumerate(names)}
    first: dict[str, int] = {}  # Class of each group.
    shared = {(first.setdefault(groups[n], place[c]), place[c]) for n, c in classes.items()}
    joined = grouped(names, shared, "")
    needed = 1 + (validation > 0) + (test > 0)
    if (count := len({*joined.values()})) < min(needed, len(names)):
        what = f"{len(names)} classes are {count} group(s), joined by near-duplicates or one name"
        raise ValueError(f"{what}, too few for {needed} splits; add others, or split by example.")
    drawn = split_by_hash(list(dict.fromkeys(joined.values())), validation, test, seed)
    return {n: drawn[joined[name]] for n, name in classes.items()}


def hold_out(
    classes: Mapping[str, str], groups: Mapping[str, str], seed: int = 0
) -> tuple[bool, float, str]:
    """Whether whole classes can be held out, two at least of each split; the share; the reason.

    Where they cannot, pictures are, and more of them until there are two of one class and one of
    another. Raises ValueError where that fails, too.
    """
    count, held = len({*classes.values()}), {}
    try:
        for n, split in split_classes(classes, groups, SHARES[0], SHARES[0], seed).items():
            held.setdefault(split, set()).add(classes[n])
    except ValueError:  # Fewer than splits.
        held = {}
    if held and min(map(len, held.values())) > 1:
        return True, SHARES[0], f"{count} classes are enough to hold whole ones out"
    for share in SHARES:
        splits, _ = split_pictures(dict.fromkeys(classes, ""), groups, share, 0, seed)
        parts = [Counter(classes[n] for n in splits[s]) for s in ("train", "validation")]
        if all(len(part) > 1 and max(part.values()) > 1 for part in parts):
            return False, share, f"{count} classes are too few to hold whole ones out"
    what = f"{len(classes)} pictures of {count} classes do not leave two of one class and one of"
    raise ValueError(f"{what} another to train and to validate; add some, or give train/ and val/.")
