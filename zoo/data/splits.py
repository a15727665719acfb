"""Which classes or pictures of a data set train, validate and test."""

import hashlib
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")


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
