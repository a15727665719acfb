"""Any labelled data set by its TFDS name: pictures of one class each, for metric learning.

As `zoo.data.source`, with the classes of a whole split at hand before any picture is decoded.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.builders import open_builder, prepare, read_info
from zoo.data.source import Source, places, read_only, read_split


@dataclasses.dataclass(eq=False, repr=False)
class LabelledSource(Source):
    """One split: `source[i]` is {"image": uint8 [h, w, c], "label": np.int32, "name": str}.

    `labels`, [n] int32, are those of all examples. `groups` and `drawers` are such arrays too, of
    the features `group` and `drawer` (Omniglot's alphabets and hands), or None.
    """

    columns: Mapping[str, np.ndarray]  # By feature.

    def __post_init__(self):
        super().__post_init__()
        self.labels = self.columns[self.label]
        self.groups, self.drawers = self.columns.get("group"), self.columns.get("drawer")

    def _label(self, label: np.ndarray, size: tuple[int, int], name: str) -> np.int32:
        return np.int32(label)


def open_labelled(
    name: str,
    split: str,
    *,
    image: str = "image",
    label: str = "label",
    num_classes: int | None = None,
    cache_mib: int = 1024,
    **given: Any,
) -> LabelledSource:
    """As `open_source`, with its `path` and `options`; ValueError for labels that are no int32."""
    builder = open_builder(name, **given)
    info = read_info(builder, image=image, label=label, num_classes=num_classes)
    features = builder.info.features
    single = [f for f in (label, "group", "drawer") if f in features and features[f].shape == ()]
    wanted = [f for f in single if np.issubdtype(features[f].np_dtype, np.integer)]
    if label not in wanted:
        got = f"{features[label]!r}, not one integer a picture"
        hint = "give data.label, or a task for masks"
        raise ValueError(f"The feature {label!r} of {name} is {got}; {hint}.")
    prepare(builder)
    where, columns = f"{name} {split}", {feature: [] for feature in wanted}
    for record in read_split(builder, name, split, skip=[image]):
        for feature, values in columns.items():
            values.append(value := int(record[feature]))
            # Refused here: JAX would wrap what does not fit, and merge classes.
            if not -(2**31) <= value < 2**31:
                problem = f"{where} holds the {feature} {value}, outside int32"
                raise ValueError(f"{problem}; number the classes anew.")
    columns = {f: read_only(np.array(values, np.int32)) for f, values in columns.items()}
    records, splits = read_split(builder, name, split), tuple(builder.info.splits)
    where = where, places(builder, split)
    return LabelledSource(records, info, splits, *where, image, label, cache_mib, 0, columns)
