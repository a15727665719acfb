"""What a data set's pictures and ids mean."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts that training, figures and prediction need; `dataclasses.asdict` makes it JSON."""

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    # RGB of each class, 0..255, and the void of masks; pictures of one class each have neither.
    colours: tuple[tuple[int, int, int], ...] = ()
    ignore_label: int = 255
    channels: int = 1
    mean: tuple[float, ...] = (0.5,)  # Of each channel, in 0..1.
    std: tuple[float, ...] = (0.25,)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Info":
        """From what `dataclasses.asdict` gave, also after JSON has made lists of its tuples."""
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**fields | {"colours": tuple(map(tuple, fields.get("colours", ())))})
