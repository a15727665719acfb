"""Labels: class ids and void."""

from typing import Any

import jax
import numpy as np


def check_ids(name: str, ids: Any, num_classes: int, ignore_label: int | None = None) -> None:
    """Raises ValueError where ids hold something that is neither a class nor `ignore_label`.

    Traced arrays have no values yet, and arrays that lie on other hosts none to read: they pass
    unseen. What reads the data has looked at those (DESIGN, "Arrays"). The ids, integers of any
    shape, have their `name` in the message.
    """
    if isinstance(ids, jax.core.Tracer) or not getattr(ids, "is_fully_addressable", True):
        return
    found = np.unique(np.asarray(ids))
    wrong = found[((found < 0) | (found >= num_classes)) & (found != ignore_label)]
    if wrong.size:
        void = "" if ignore_label is None else f" or {ignore_label}, which is void"
        got, hint = ", ".join(map(str, wrong[:8])), "Correct the data, num_classes or ignore_label."
        got += ", ..." * (wrong.size > 8)
        raise ValueError(f"{name} must be in 0..{num_classes - 1}{void}; got {got}. {hint}")
