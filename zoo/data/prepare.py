"""Prepared copies of data sets: where they lie, and how they never go stale or half-written.

TFDS names a prepared copy by data set and version alone, so a second folder of pictures would meet
the copy of the first. `SegmentationBuilder` puts a fingerprint of the source and the options into
the place. One process prepares while others wait for its lock, TFDS writes beside the place and
renames at the end, and what a killed process left is swept away by the next.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def cache_dir() -> Path:
    """`$ZOO_CACHE/tfds`, or `~/.cache/zoo/tfds` where that is unset."""
    return Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "zoo") / "tfds"


def fingerprint(path: Path | None, files: list[Path], options: Mapping, version: str) -> str:
    """16 hex digits that change with the source's place, names, sizes, times and the options."""
    listing = []
    for file in files:
        stat = file.stat()
        listing.append((os.path.relpath(file, path), stat.st_size, stat.st_mtime_ns))
    place = None if path is None else os.path.realpath(path)
    text = json.dumps([place, sorted(listing), sorted(options.items()), version])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def png(pixels: np.ndarray) -> io.BytesIO:
    """[h, w], [h, w, 1] or [h, w, 3] uint8 as a PNG file in memory, packed fast rather than small.

    TFDS takes a file object as it is; an array would need TensorFlow.
    """
    buffer = io.BytesIO()
    pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    buffer.seek(0)
    return buffer


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A segmentation data set of ours: pictures, masks, names, and what the ids mean.

    A subclass sets the constants, lists the files it reads (`source_files`) and yields examples
    whose `image` and `label` come from `png`, in an order that depends on the source alone.
    """

    CLASS_NAMES: tuple[str, ...]
    COLOURS: tuple[tuple[int, int, int], ...]
    CHANNELS = 3
    IGNORE_LABEL = 255
    MEAN: tuple[float, ...]  # Of each channel of the training pictures, in 0..1.
    STD: tuple[float, ...]
    DESCRIPTION: str

    def __init__(self, *, options, path=None, data_dir=None, file_format="array_record", **kwargs):
        """Lists the source and finds the place of its prepared copy; writes nothing.

        Args:
            options: what the subclass was told, all of it JSON.
            path: the source's folder, where it has one.
            data_dir: the folder of prepared copies; `cache_dir()` where it is None.

        Raises:
            ValueError: the source is missing or does not fit together.
        """
        self.path = None if path is None else Path(path).expanduser()
        files = self.source_files()
        mark = fingerprint(self.path, files, options, str(self.VERSION))
        self._place = Path(data_dir or cache_dir()).expanduser() / f"{self.name}-{mark}"
        super().__init__(data_dir=self._place, file_format=file_format, **kwargs)
        # What TFDS pickles a builder by.
        self._original_state = {"path": path, "data_dir": data_dir, **options, **kwargs}

    def source_files(self) -> list[Path]:
        """Every file that the examples are made of; none where they are made from nothing."""
        return []

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, self.CHANNELS), encoding_format="png")
        label = tfds.features.Image(shape=(None, None, 1), encoding_format="png", use_colormap=True)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {"image": image, "label": label, "name": tfds.features.Text()}
            ),
            metadata=tfds.core.MetadataDict(
                class_names=list(self.CLASS_NAMES),
                colours=[list(colour) for colour in self.COLOURS],
                ignore_label=self.IGNORE_LABEL,
                channels=self.CHANNELS,
                mean=list(self.MEAN),
                std=list(self.STD),
            ),
            disable_shuffling=True,  # Keep the order in which the source lists its pictures.
        )

    def download_and_prepare(self, *, download_config=None, **kwargs) -> None:
        """As TFDS does it, by one process at a time; `manual_dir` stands for a missing `path`."""
        manual_dir = download_config.manual_dir if download_config else None
        if self.path is None and manual_dir is not None:
            self.__init__(**{**self._original_state, "path": manual_dir})
        if self.path is None and self.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise ValueError(
                f"{self.name} is read from a folder: {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        if self.data_path.exists():
            return
        with _lock(self._place.with_suffix(".lock")):
            if self.data_path.exists():
                # Another process prepared it meanwhile: read what it wrote.
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TFDS prints to stdout, where `--json` writes, and draws bars into files: neither here."""
    tfds.display_progress_bar(sys.stderr.isatty())
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Waits for a file's lock, which a process that dies gives back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
