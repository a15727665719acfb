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


@dataclasses.dataclass(eq=False, repr=False)
class Source(Sequence):
    """One split: `source[i]` is {"image": uint8 [h, w, c], "label": uint8 [h, w], "name": str}.

    An example is decoded and checked when first asked for, and kept while all that is kept fits
    `cache_mib` MiB. Arrays are read-only, as they are shared. Threads may read at once.
    """

    records: Sequence  # As TFDS decodes them.
    info: Info
    splits: tuple[str, ...]  # All that the data set has.
    where: str  # Data set and split, for messages.
    places: Sequence[tuple[str, range]]  # Runs of "mnist test": alike in any slice of a split.
    image: str  # Names of the features.
    label: str
    cache_mib: int
    label_offset: int

    def __post_init__(self):
        self._kept, self._room, self._lock = {}, self.cache_mib * 2**20, threading.Lock()

    def __reduce__(self):
        """Pickled without what it keeps."""
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        record = self.records[index]
        given = next((record[f] for f in ("name", "file_name") if f in record), None)
        name = self._place(index) if given is None else given.decode()
        image = self._image(record[self.image], name)
        label = self._label(record[self.label], image.shape[:2], name)
        example = {"image": image, "label": label, "name": name}
        size = image.nbytes + label.nbytes
        with self._lock:
            if index not in self._kept and size <= self._room:  # Two threads count it once.
                self._kept[index] = example
                self._room -= size
        return example

    def _place(self, index: int) -> str:
        """What stands for a name where there is none: "mnist test[7000]"."""
        for name, run in self.places:
            if index < len(run):
                return f"{name}[{run[index]}]"
            index -= len(run)

    def _image(self, image: np.ndarray, name: str) -> np.ndarray:
        image, channels = np.asarray(image), self.info.channels
        if channels == 3 and image.shape[2:] in ((1,), (4,)):  # TFDS leaves alpha in.
            image = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image[..., :3]
        if image.ndim != 3 or image.shape[-1] != channels or image.dtype != np.uint8:
            got = f"the feature {self.image!r} holds {image.dtype} {image.shape}"
            wanted = f"uint8 [h, w, {channels}]"
            raise ValueError(f"{name} of {self.where}: {got}; an image must be {wanted}.")
        return read_only(np.array(image))

    def _label(self, label: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
        label = np.asarray(label)  # TFDS gives a number where each picture has one class.
        if label.shape not in (size, (*size, 1)) or not np.issubdtype(label.dtype, np.integer):
            got = f"the feature {self.label!r} holds {label.dtype} {label.shape}"
            wanted = f"integers [h, w] of its image's size, here {size}"
            raise ValueError(f"{name} of {self.where}: {got}; a label must be {wanted}.")
        label = label.reshape(size)
        k, void = self.info.num_classes, self.info.ignore_label
        # int64: the sum of a uint8 and the offset would wrap around.
        ids = np.where(label == void, void, label.astype(np.int64) + self.label_offset)
        bad = ids[((ids < 0) | (ids >= k)) & (label != void)]
        if bad.size:
            offset = f" after label_offset={self.label_offset}" if self.label_offset else ""
            what = f"{name} of {self.where} has the ids {np.unique(bad)[:8].tolist()}{offset}"
            known = f"one of the {k} classes (0..{k - 1}) nor void ({void})"
            hint = "check num_classes and label_offset"
            raise ValueError(f"{what}, which are neither {known}; {hint}.")
        return read_only(ids.astype(np.uint8))


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

    `name` is that of a builder of ours whose module is imported, or any TFDS name ("voc/2012");
    `split` a split's name, or TFDS's slice of one ("train[:80%]"). `path` is for our builders the
    source's folder, for others TFDS's `data_dir`, where prepared data sets lie (TFDS_DATA_DIR or
    ~/tensorflow_datasets by default). The other arguments are as the fields of `Data`. Raises
    ValueError for an unknown name, split, option or feature, a source that is missing or faulty,
    and a data set that cannot be prepared here.
    """
    builder = open_builder(name, path=path, options=options)
    info = read_info(builder, image=image, label=label, num_classes=num_classes)
    if info.num_classes > 255 or info.ignore_label in range(info.num_classes):
        got = f"{info.num_classes} classes and void {info.ignore_label}"
        raise ValueError(f"{name} has {got}: masks hold 255, and void apart; merge some classes.")
    prepare(builder)
    records, splits = read_split(builder, name, split), tuple(builder.info.splits)
    where = f"{name} {split}", places(builder, split)
    return Source(records, info, splits, *where, image, label, cache_mib, label_offset)


def read_split(builder, name: str, split: str, *, skip: Sequence[str] = ()) -> Sequence:
    """A prepared split's records, `skip` left encoded; ValueError for an unknown split or slice."""
    for part in split.split("+"):
        check_known(f"{name} has no split", part.partition("[")[0].strip(), [*builder.info.splits])
    decoders = {feature: tfds.decode.SkipDecoding() for feature in skip}
    try:
        return builder.as_data_source(split, decoders=decoders or None)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"The split {split!r} of {name} cannot be read: {error}") from error


def places(builder, split: str) -> list[tuple[str, range]]:
    """Where the records of a split, or of slices of some, stand in their splits."""
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
    parts = [(p.splitname, range(sizes[p.splitname])[p.from_ : p.to]) for p in parts]
    return [(f"{builder.name} {name}", run) for name, run in parts]


def read_only(array: np.ndarray) -> np.ndarray:
    """The array itself, which nobody can change any more."""
    array.flags.writeable = False
    return array
