"""What a split holds, chosen by an option that lists it."""

import re
from collections.abc import Mapping, Sequence

from zoo.data.checks import nearest


def parse_numbers(text: str, option: str) -> list[int]:
    """The whole numbers of a list such as "3,7-9", in order; ValueError where it is none."""
    if isinstance(text, tuple | list):  # As --set has read "3,7".
        text = ",".join(map(str, text))
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
