"""Prepared copies of data sets: where they lie, and how they never go stale or half-written.

TFDS names a prepared copy by data set and version alone, so a second folder of pictures would meet
the copy of the first. `Builder` puts a fingerprint of the source and the options into the place.
One process prepares while others wait for its lock, TFDS writes beside the place and renames at the
end, and what a killed process left is swept away by the next.
"""

import fcntl
import functools
import hashlib
import inspect
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from zoo.data.builders import quiet


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of ours, of any kind.

    A subclass sets the constants, judges its options (`set_up`), lists what it reads
    (`source_files`, only where it has MANUAL_DOWNLOAD_INSTRUCTIONS) and yields examples whose
    pictures are encoded, in an order that depends on the source alone.
    """

    VERSION = tfds.core.Version("1.0.0")
    OPTIONS: Mapping[str, Any] = {}  # Keyword arguments, JSON, and defaults; kept as attributes.
    CHANNELS = 3
    MEAN: tuple[float, ...]  # Of each channel of the training pictures, in 0..1.
    STD: tuple[float, ...]
    parts: Mapping[str, Sequence] = {}  # What `_generate_examples` takes, of each split.

    def __init__(self, *, path=None, data_dir=None, file_format="array_record", **kwargs):
        """Lists the source's folder `path` and finds its prepared copy's place; writes nothing.

        Copies lie in `data_dir`, by default `$ZOO_CACHE/tfds` or `~/.cache/zoo/tfds`. Raises
        ValueError where an option is impossible, or the source missing, faulty or no folder.
        """
        self.options = {name: kwargs.pop(name, value) for name, value in self.OPTIONS.items()}
        for option, value in self.options.items():
            kind = type(self.OPTIONS[option])
            number = isinstance(value, int | kind) and not isinstance(value, bool)
            if kind in (int, float) and not number:
                got = f"{value!r}, a {type(value).__name__}"
                raise ValueError(f"data.options.{option} must be {kind.__name__}; got {got}.")
        vars(self).update(self.options)
        self.set_up()
        hint = self.MANUAL_DOWNLOAD_INSTRUCTIONS
        if path is not None and not hint:
            raise ValueError(f"{self.name} reads no files: leave out the path {str(path)!r}.")
        self.path = None if path is None else Path(path).expanduser()
        try:
            files = [] if self.path is None else self.source_files()
        except OSError as error:
            problem = f"The folder of {self.name} cannot be read ({error})"
            raise ValueError(f"{problem}: {hint}") from error
        stats = {os.path.relpath(file, self.path): file.stat() for file in files}
        listing = sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items())
        place = None if path is None else os.path.realpath(self.path)
        source = json.dumps([place, listing, sorted(self.options.items()), str(self.VERSION)])
        mark = hashlib.sha256(source.encode()).hexdigest()[:16]
        cache = Path(os.environ.get("ZOO_CACHE") or "~/.cache/zoo", "tfds")
        self._place = Path(data_dir or cache).expanduser() / f"{self.name}-{mark}"
        super().__init__(data_dir=self._place, file_format=file_format, **kwargs)
        # What TFDS pickles a builder by.
        self._original_state = {"path": path, "data_dir": data_dir, **self.options, **kwargs}

    def set_up(self) -> None:
        """Sets what follows from `options`; ValueError for impossible ones."""

    def source_files(self) -> list[Path]:
        """Every file in `path` that the examples are made of; sets `parts`."""
        raise NotImplementedError

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(part) for split, part in self.parts.items() if part}

    @functools.cached_property
    def info(self) -> tfds.core.DatasetInfo:
        """As TFDS's, which would outlive a change of `path`."""
        return self._info()

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, self.CHANNELS), encoding_format="png")
        # The features beside `image` and `name`, and `Info`'s other metadata.
        features, metadata = self.meanings()
        features |= {"image": image, "name": tfds.features.Text()}
        metadata |= {"channels": self.CHANNELS, "mean": list(self.MEAN), "std": list(self.STD)}
        return tfds.core.DatasetInfo(
            builder=self,
            description=inspect.getmodule(type(self)).__doc__,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(metadata),
            disable_shuffling=True,  # Keep the order in which the source lists its pictures.
        )

    def download_and_prepare(self, *, download_config=None, **kwargs) -> None:
        """As TFDS does it, by one process at a time; `manual_dir` stands for a missing `path`."""
        manual_dir = download_config.manual_dir if download_config else None
        if self.path is None and manual_dir is not None:
            self.__dict__.pop("info", None)
            self.__init__(**{**self._original_state, "path": manual_dir})
        if self.path is None and (hint := self.MANUAL_DOWNLOAD_INSTRUCTIONS):
            raise ValueError(f"{self.name} is read from a folder: {hint}")
        if self.data_path.exists():
            return
        self._place.parent.mkdir(parents=True, exist_ok=True)
        with open(self._place.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # A process that dies gives it back.
            if self.data_path.exists():  # Another process prepared it meanwhile.
                self.info.read_from_directory(self.data_path)
                return
            shutil.rmtree(self._place, ignore_errors=True)
            try:
                print(f"Preparing {self.name} in {self._place}, once.", file=sys.stderr)
                with quiet():
                    super().download_and_prepare(download_config=download_config, **kwargs)
            except BaseException:
                shutil.rmtree(self._place, ignore_errors=True)
                raise
