"""Labels, class ids and void, and numbers: what is wrong with them, where that can be seen."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def seen(x: Any) -> np.ndarray | None:
    """An array's values; None where it is traced and has none yet, or they lie on other hosts."""
    x = (getattr(x, "__jax_array__", None) or (lambda: x))()  # A parameter of `flax.nnx` holds one.
    hidden = isinstance(x, jax.core.Tracer) or not getattr(x, "is_fully_addressable", True)
    return None if hidden else np.asarray(x)  # Within `jit` jnp would trace what is known, too.


def check_number(name: str, number: Any, wanted: str, good: Callable[[Any], bool]) -> None:
    """Raises ValueError for a number that is not as wanted; a traced one passes."""
    if (value := seen(number)) is not None and not good(value):
        raise ValueError(f"{name} must be {wanted}; got {number}.")


def check_ids(name: str, ids: Any, num_classes: int, ignore_label: int | None = None) -> None:
    """Raises ValueError where ids hold something that is neither a class nor `ignore_label`.

    What cannot be `seen` passes: what reads the data has looked at it (DESIGN, "Arrays"). The ids,
    integers of any shape, have their `name` in the message.
    """
    if (values := seen(ids)) is None:
        return
    found = np.unique(values)
    wrong = found[((found < 0) | (found >= num_classes)) & (found != ignore_label)]
    if wrong.size:
        void = "" if ignore_label is None else f" or {ignore_label}, which is void"
        got, hint = ", ".join(map(str, wrong[:8])), "Correct the data, num_classes or ignore_label."
        got += ", ..." * (wrong.size > 8)
        raise ValueError(f"{name} must be in 0..{num_classes - 1}{void}; got {got}. {hint}")
