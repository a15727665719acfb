"""Any labelled data set by its TFDS name: pictures of one class each, for metric learning.

As `zoo.data.source`, with the classes of a whole split at hand before any picture is decoded.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.builders import open_builder, prepare, read_info
from zoo.data.source import Reader, Source, name_feature, read_split


class LabelledSource(Source):
    """One split: `source[i]` is {"image": uint8 [h, w, c], "label": np.int32, "name": str}.

    `labels`, [n] int32, are those of all examples. `groups` and `drawers` are such arrays too, of
    the features `group` and `drawer` (Omniglot's alphabets and hands), or None.
    """

    def __init__(self, *args, columns: Mapping[str, np.ndarray]):
        super().__init__(*args)
        self.labels = columns[self.read.label]
        self.groups, self.drawers = columns.get("group"), columns.get("drawer")


class LabelledReader(Reader):
    """Turns an example of TFDS into one of ours."""

    def _label(self, label: np.ndarray, size: tuple[int, int], name: str) -> np.int32:
        return np.int32(label)


def open_labelled(
    name: str,
    split: str,
    *,
    path: str | None = None,
    image: str = "image",
    label: str = "label",
    num_classes: int | None = None,
    options: Mapping[str, Any] | None = None,
    cache_mib: int = 1024,
) -> LabelledSource:
    """As `open_source`, for one class a picture ("mnist", "omniglot").

    Raises ValueError as it does, and for a label that is no integer of 32 bits.
    """
    builder = open_builder(name, path=path, options=options or {})
    info = read_info(builder, image=image, label=label, num_classes=num_classes)
    features = builder.info.features
    named = (label, "group", "drawer")
    there = [(f, features[f]) for f in named if f in features and features[f].shape == ()]
    wanted = [f for f, feature in there if np.issubdtype(feature.np_dtype, np.integer)]
    if label not in wanted:
        raise ValueError(
            f"The feature {label!r} of {name} is {features[label]!r}, but one integer a picture is "
            f"needed: give data.label, or a task for masks."
        )
    prepare(builder)
    where, columns = f"{name} {split}", {feature: [] for feature in wanted}
    for record in read_split(builder, name, split, skip=[image]):
        for feature, values in columns.items():
            values.append(value := int(record[feature]))
            # Refused here: JAX would wrap what does not fit, and merge classes.
            if not -(2**31) <= value < 2**31:
                problem = f"{where} holds the {feature} {value}, outside int32"
                raise ValueError(f"{problem}; number the classes anew.")
    columns = {feature: np.array(values, np.int32) for feature, values in columns.items()}
    for column in columns.values():
        column.flags.writeable = False
    read = LabelledReader(where, info, image, label, name_feature(builder), label_offset=0)
    records, splits = read_split(builder, name, split), tuple(builder.info.splits)
    return LabelledSource(records, info, splits, read, cache_mib, columns=columns)
