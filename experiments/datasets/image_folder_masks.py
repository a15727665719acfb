"""Any folder of pictures and masks: layout, classes and splits are found out, not asked for.

What was understood is in the builder's `understood`, as JSON, which a run keeps as dataset.json.
Splits that the folder gives are kept. Others are drawn by a hash of names, where groups and
pictures that are nearly the same stay together: by a hash of what `group` found, or of the first
name of pictures that are nearly the same, so another that comes first may move them all.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from experiments.datasets._builders import SegmentationBuilder, png
from experiments.datasets._understood import RULES, understood
from experiments.folders import layouts, meanings
from experiments.folders.layouts import Pair
from experiments.folders.tables import find_table
from zoo.data.images import read_image


class ImageFolderMasks(SegmentationBuilder):
    """See the module. Pictures in 3 or 1 `channels`; 0: in 1 where all are grey.

    What `group`, a regular expression, finds in a picture's path, or its parentheses hold of that,
    keeps pictures of one finding in one split ("patient[0-9]+", "(patient[0-9]+)_slice[0-9]+"). The
    shares are to be expected where the folder gives no such split; `split_seed` draws another.
    """

    VERSION = tfds.core.Version(f"1.{RULES}.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "give one with pictures and masks as data.path."
    CLASS_NAMES, COLOURS = (), ()  # These and the next are set where a folder is given.
    MEAN, STD = (0.5,) * 3, (0.25,) * 3
    OPTIONS: Mapping = dict(
        channels=0, group="", validation_share=0.2, test_share=0.0, split_seed=0
    )

    def set_up(self) -> None:
        if self.channels not in (0, 1, 3):
            takes = "channels=1 or 3, or 0 for those of the pictures"
            raise ValueError(f"image_folder_masks takes {takes}, not {self.channels!r}.")
        try:
            re.compile(self.group)
        except (re.error, TypeError) as error:
            raise ValueError(f"group={self.group!r} is no regular expression ({error}).") from error

    def source_files(self) -> list[Path]:
        """Raises ValueError for the first fault; `python -m zoo check` names all."""
        if not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is no folder")
        layout, by_split, faults = layouts.find_pairs(self.path)
        if faults:
            first, path = faults[0], shlex.quote(str(self.path))
            more = f"python -m zoo check {path} names all faults"
            raise ValueError(f"{first.file} {first.what}: {first.remedy}; {more}.")
        pairs = [pair for some in by_split.values() for pair in some]
        table = find_table(self.path, [mask for _, mask in pairs])
        told = self.understood = understood(self.path, layout, by_split, table, self.options)
        by_name = {image.relative_to(self.path).as_posix(): (image, mask) for image, mask in pairs}
        self.parts = {split: [by_name[n] for n in names] for split, names in told["splits"].items()}
        self.CLASS_NAMES = tuple(c["name"] for c in told["classes"])
        self.COLOURS = tuple(tuple(c["colour"]) for c in told["classes"])
        self.CHANNELS, self.MEAN, self.STD = told["channels"], told["mean"], told["std"]
        ids = {int(value): i for value, i in told["mapping"].items()}
        how = told["masks"] == "colours", told["rule"], ""
        self.meaning = meanings.Meaning(self.CLASS_NAMES, (), ids, *how)
        beside = [*filter(None, [table]), *layouts.split_lists(self.path)]
        return [file for pair in pairs for file in pair] + beside

    def _generate_examples(self, pairs: Sequence[Pair]) -> Iterator[tuple[str, dict]]:
        for image, mask in pairs:
            name = image.relative_to(self.path).as_posix()
            pixels = png(read_image(image, self.CHANNELS))
            yield name, {"image": pixels, "label": png(self._label(mask)), "name": name}

    def _label(self, mask: Path) -> np.ndarray:
        """A mask's class ids, [h, w] uint8."""
        values, *how = meanings.read_values(mask)
        found, places = np.unique(values, return_inverse=True)
        ids = np.array(self.meaning.own(found.tolist(), *how), np.uint8)
        return ids[places].reshape(values.shape)
