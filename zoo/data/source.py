"""Any segmentation data set by its TFDS name, as a random-access sequence of decoded examples.

`open_source` prepares what is not prepared yet and reads through TFDS's `as_data_source`, so
TensorFlow is not needed. Our own builders know their classes; for any other TFDS data set the
caller names the features and the number of classes.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.data.builders import nearest, open_builder, prepare, read_info
from zoo.data.info import Info


class Source(Sequence):
    """One split: `source[i]` is {"image": uint8 [h, w, c], "label": uint8 [h, w], "name": str}.

    An example is decoded and its label checked when it is first asked for, and kept in memory while
    all that is kept fits `cache_mib` MiB; what no longer fits is decoded at each access. Arrays are
    read-only, as they are shared. Threads may read at once; a pickled source forgets what it kept.
    """

    def __init__(
        self, records: Sequence, info: Info, splits: tuple[str, ...], read: "Reader", cache_mib: int
    ):
        self.records, self.info, self.splits, self.read = records, info, splits, read
        self.cache_mib = cache_mib
        self._forget()

    def _forget(self) -> None:
        self._kept: dict[int, dict] = {}
        self._room = self.cache_mib * 2**20
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        example = self.read(self.records[index], index)
        size = example["image"].nbytes + example["label"].nbytes
        with self._lock:
            # Two threads may have decoded one example: count it once.
            if index not in self._kept and size <= self._room:
                self._kept[index] = example
                self._room -= size
        return example

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k not in ("_kept", "_room", "_lock")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()

    def __repr__(self) -> str:
        return f"Source({self.read.where}, {len(self)} examples)"


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
        name = f"{self.where}[{index}]"
        if self.name is not None:
            name = record[self.name].decode()
        image = self._image(record[self.image], name)
        label = self._label(record[self.label], name)
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"{name} of {self.where}: the image is {image.shape[:2]} and its label "
                f"{label.shape} (h, w); both must be of one size."
            )
        image.flags.writeable = label.flags.writeable = False
        return {"image": image, "label": label, "name": name}

    def _image(self, image: np.ndarray, name: str) -> np.ndarray:
        channels = self.info.channels
        if image.shape[-1] == 4 and channels == 3:
            image = image[..., :3]  # TFDS leaves the alpha of an RGBA picture in.
        if image.shape[-1] == 1 and channels == 3:
            image = np.repeat(image, 3, -1)
        if image.ndim != 3 or image.shape[-1] != channels or image.dtype != np.uint8:
            raise ValueError(
                f"{name} of {self.where}: the feature {self.image!r} holds {image.dtype} "
                f"{image.shape}; an image must be uint8 [h, w, {channels}]."
            )
        return np.array(image)

    def _label(self, label: np.ndarray, name: str) -> np.ndarray:
        if label.ndim == 3 and label.shape[-1] == 1:
            label = label[..., 0]
        if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer):
            raise ValueError(
                f"{name} of {self.where}: the feature {self.label!r} holds {label.dtype} "
                f"{label.shape}; a label must be integers [h, w], one class id a pixel."
            )
        k, void = self.info.num_classes, self.info.ignore_label
        # int64: the sum of a uint8 and the offset would wrap around.
        ids = np.where(label == void, void, label.astype(np.int64) + self.label_offset)
        bad = ids[((ids < 0) | (ids >= k)) & (label != void)]
        if bad.size:
            offset = f" after label_offset={self.label_offset}" if self.label_offset else ""
            raise ValueError(
                f"{name} of {self.where} has the ids {np.unique(bad)[:8].tolist()}{offset}, which "
                f"are neither one of the {k} classes (0..{k - 1}) nor void ({void}); "
                f"check num_classes and label_offset."
            )
        return ids.astype(np.uint8)


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

    Raises:
        ValueError: unknown name, split, option or feature; a source that is missing or faulty; a
            data set that cannot be prepared here.
    """
    builder = open_builder(name, path=path, options=options or {})
    info = read_info(builder, image=image, label=label, num_classes=num_classes)
    prepare(builder)
    splits = tuple(builder.info.splits)
    if split.partition("[")[0] not in splits:
        raise ValueError(
            f"{name} has no split {split!r}{nearest(split, splits)}; it has {', '.join(splits)}."
        )
    try:
        records = builder.as_data_source(split)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"The split {split!r} of {name} cannot be read: {error}") from error
    features = [f for f in ("name", "file_name") if f in builder.info.features]
    read = Reader(
        where=f"{name} {split}",
        info=info,
        image=image,
        label=label,
        name=features[0] if features else None,
        label_offset=label_offset,
    )
    return Source(records, info, splits, read, cache_mib)
