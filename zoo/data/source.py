"""Any segmentation data set by its TFDS name, as a random-access sequence of decoded examples.

It is read through TFDS's `as_data_source`, so TensorFlow is not needed. Our own builders know their
classes; for any other data set the caller names the features and the number of classes.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from zoo.data.builders import check_known, open_builder, prepare, read_info
from zoo.data.info import Info


class Source(Sequence):
    """One split: `source[i]` is {"image": uint8 [h, w, c], "label": uint8 [h, w], "name": str}.

    An example is decoded and checked when first asked for, and kept while all that is kept fits
    `cache_mib` MiB. Arrays are read-only, as they are shared. Threads may read at once.
    """

    def __init__(
        self, records: Sequence, info: Info, splits: tuple[str, ...], read: "Reader", cache_mib: int
    ):
        self.records, self.info, self.splits, self.read = records, info, splits, read
        self.cache_mib = cache_mib
        self.__setstate__({})

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        example = self.read(self.records[index], index)
        size = example["image"].nbytes + example["label"].nbytes
        with self._lock:
            if index not in self._kept and size <= self._room:  # Two threads count it once.
                self._kept[index] = example
                self._room -= size
        return example

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k not in ("_kept", "_room", "_lock")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._kept: dict[int, dict] = {}
        self._room = self.cache_mib * 2**20
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.read.where}, {len(self)} examples)"


@dataclasses.dataclass(frozen=True)
class Reader:
    """Turns an example of TFDS into one of ours; refuses a label that is neither class nor void."""

    where: str  # Data set and split, for messages.
    info: Info
    image: str  # Names of the features.
    label: str
    name: str | None
    label_offset: int

    def __call__(self, record: Mapping[str, Any], index: int) -> dict:
        name = f"{self.where}[{index}]" if self.name is None else record[self.name].decode()
        image = self._image(record[self.image], name)
        label = self._label(record[self.label], image.shape[:2], name)
        return {"image": image, "label": label, "name": name}

    def _image(self, image: np.ndarray, name: str) -> np.ndarray:
        channels = self.info.channels
        if image.shape[-1] == 4 and channels == 3:
            image = image[..., :3]  # TFDS leaves the alpha of an RGBA picture in.
        if image.shape[-1] == 1 and channels == 3:
            image = np.repeat(image, 3, -1)
        if image.ndim != 3 or image.shape[-1] != channels or image.dtype != np.uint8:
            got = f"the feature {self.image!r} holds {image.dtype} {image.shape}"
            wanted = f"an image must be uint8 [h, w, {channels}]"
            raise ValueError(f"{name} of {self.where}: {got}; {wanted}.")
        image = np.array(image)
        image.flags.writeable = False
        return image

    def _label(self, label: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
        label = np.asarray(label)  # TFDS gives a number where each picture has one class.
        if label.shape not in (size, (*size, 1)) or not np.issubdtype(label.dtype, np.integer):
            got = f"the feature {self.label!r} holds {label.dtype} {label.shape}"
            wanted = f"integers [h, w] of its image's size, here {size}, one class id a pixel"
            raise ValueError(f"{name} of {self.where}: {got}; a label must be {wanted}.")
        label = label.reshape(size)
        k, void = self.info.num_classes, self.info.ignore_label
        # int64: the sum of a uint8 and the offset would wrap around.
        ids = np.where(label == void, void, label.astype(np.int64) + self.label_offset)
        bad = ids[((ids < 0) | (ids >= k)) & (label != void)]
        if bad.size:
            offset = f" after label_offset={self.label_offset}" if self.label_offset else ""
            problem = f"{name} of {self.where} has the ids {np.unique(bad)[:8].tolist()}{offset}"
            known = f"one of the {k} classes (0..{k - 1}) nor void ({void})"
            hint = "check num_classes and label_offset"
            raise ValueError(f"{problem}, which are neither {known}; {hint}.")
        ids = ids.astype(np.uint8)
        ids.flags.writeable = False
        return ids


def open_source(
    name: str,
    split: str,
    *,
    path: str | None = None,
    image: str = "image",
    label: str = "label",
    label_offset: int = 0,
    num_classes: int | None = None,
    options: Mapping[str, Any] | None = None,
    cache_mib: int = 1024,
) -> Source:
    """Opens one split of a data set, preparing it first where that has not been done.

    Args:
        name: one of zoo.data's builders, or any TFDS name ("voc/2012").
        split: a split's name, or TFDS's slice of one ("train[:80%]").
        path: for our builders the source's folder, for others TFDS's `data_dir`, where prepared
            data sets lie (TFDS_DATA_DIR or ~/tensorflow_datasets by default).
        image, label: the features' names.
        label_offset: added to every id but void.
        num_classes: of a foreign data set whose label feature does not tell it.
        options: the builder's keyword arguments.
        cache_mib: memory for decoded examples, MiB.

    Raises ValueError for an unknown name, split, option or feature, a source that is missing or
    faulty, and a data set that cannot be prepared here.
    """
    builder = open_builder(name, path=path, options=options or {})
    info = read_info(builder, image=image, label=label, num_classes=num_classes)
    prepare(builder)
    read = Reader(f"{name} {split}", info, image, label, name_feature(builder), label_offset)
    records, splits = read_split(builder, name, split), tuple(builder.info.splits)
    return Source(records, info, splits, read, cache_mib)


def read_split(builder, name: str, split: str, *, skip: Sequence[str] = ()) -> Sequence:
    """A prepared split's records, `skip` left encoded; ValueError for an unknown split or slice."""
    check_known(f"{name} has no split", split.partition("[")[0], list(builder.info.splits))
    decoders = {feature: tfds.decode.SkipDecoding() for feature in skip}
    try:
        return builder.as_data_source(split, decoders=decoders or None)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"The split {split!r} of {name} cannot be read: {error}") from error


def name_feature(builder) -> str | None:
    """The feature that names an example, where a data set has one."""
    return next((f for f in ("name", "file_name") if f in builder.info.features), None)
