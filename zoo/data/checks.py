"""Bad input becomes a ValueError that names the culprit, the value and the way out."""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


@contextlib.contextmanager
def explained(
    problem: str, hint: str, errors: type[Exception] | tuple[type[Exception], ...] = Exception
) -> Iterator[None]:
    """Makes a ValueError of any of the `errors`: "PROBLEM (the error); HINT."."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{problem} ({' '.join(str(error).split())}); {hint}.") from error


def nearest(word: str, words: Iterable[str]) -> str:
    """For a message about a misspelt word: " (nearest: a or b)", empty where none is near."""
    near = difflib.get_close_matches(word, words)
    return f" (nearest: {' or '.join(near)})" if near else ""


def require(config: Any, owner: str, names: Sequence[str], wanted: str, good: Callable) -> None:
    """Raises ValueError for the first of these fields of `owner` whose value is not as wanted."""
    for name in names:
        if not good(value := getattr(config, name)):
            raise ValueError(f"{owner}{name} must be {wanted}; got {value!r}.")
