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
    colours: tuple[tuple[int, int, int], ...]  # RGB of each class, 0..255.
    ignore_label: int
    channels: int
    mean: tuple[float, ...]  # Of each channel, in 0..1.
    std: tuple[float, ...]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Info":
        """From what `dataclasses.asdict` gave, also after JSON has made lists of its tuples."""
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        colours = tuple(tuple(colour) for colour in fields["colours"])
        return cls(**{**fields, "colours": colours})
