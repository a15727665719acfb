"""What a split holds: drawn by a hash of names, or chosen by an option that lists them."""

import hashlib
import re
from collections.abc import Mapping, Sequence

from zoo.data.builders import nearest

SPLITS = ("train", "validation", "test")


def parse_numbers(text: str, option: str) -> list[int]:
    """The whole numbers of a list such as "3,7-9", in order; ValueError where it is none."""
    numbers: set[int] = set()
    for part in str(text).split(",") if text != "" else ():
        # Six digits at most: a slip of the finger should not fill the memory.
        match = re.fullmatch(r"\s*([0-9]{1,6})(?:-([0-9]{1,6}))?\s*", part)
        span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else ()
        if not span:
            raise ValueError(f'{option}={text!r} is no list of numbers such as "3,7-9".')
        numbers.update(span)
    return sorted(numbers)


def split_by_name(names: Sequence[str], chosen: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """{name: split}; an option "test_..." of `chosen` lists the names of test, the rest trains.

    Raises ValueError for a name unknown or chosen twice, and where none is left to train with.
    """
    splits = dict.fromkeys(names, "train")
    for option, picked in chosen.items():
        for name in picked:
            if name not in splits:
                near, known = nearest(name, names), ", ".join(names) or "none"
                raise ValueError(f"{option} names {name!r}{near}; there are {known}.")
            if splits[name] != "train":
                raise ValueError(f"{option} names {name!r}, which is chosen already; take it away.")
            splits[name] = option.partition("_")[0]
    if "train" not in splits.values():
        raise ValueError(f"{' and '.join(chosen)} leave nothing to train with; name fewer.")
    return splits


def split_by_hash(names: Sequence[str], validation: float, test: float) -> dict[str, str]:
    """{name: split}, drawn with the shares of validation and test.

    A name's own hash decides, whatever others there are. Only where that leaves a split empty, the
    name whose hash is nearest goes there. Raises ValueError for shares that leave nothing to train
    with, and fewer names than splits.
    """
    edges = {"train": 0.0, "validation": 1 - validation - test, "test": 1 - test}
    if min(validation, test) < 0 or edges["validation"] < 1e-9:
        got = f"validation_share={validation} and test_share={test}"
        raise ValueError(f"{got} must be at least 0 and leave a part to train with.")
    wanted = [s for s, share in zip(SPLITS, (1, validation, test), strict=True) if share > 0]
    if len(names) < len(wanted):
        problem = f"{len(names)} classes or pictures cannot fill {', '.join(wanted)}"
        raise ValueError(f"{problem}: add some, or set validation_share or test_share to 0.")
    digests = {n: hashlib.sha256(f"zoo/{n}".encode()).digest() for n in names}
    draws = {n: int.from_bytes(digest[:6]) / 2**48 for n, digest in digests.items()}
    splits = {n: max(wanted, key=lambda s: (edges[s] <= u, edges[s])) for n, u in draws.items()}
    for split in wanted:
        if split not in (held := list(splits.values())):
            spare = {abs(draws[n] - edges[split]): n for n in names if held.count(splits[n]) > 1}
            splits[spare[min(spare)]] = split
    return splits
