"""Any folder of classes: ROOT/class/picture, with the class of a picture told by its folder.

ROOT/train/class, ROOT/val/class and, if wished, ROOT/test/class give the splits. Others are drawn
by a hash of the name of the class, or of the class and the file, so what is added or taken away
moves nothing else from one split to another. But what stays together is drawn as one, by a hash of
what `group` found. Of pictures that are nearly the same, and of classes that share a group, it is
of the first name, so another that comes first may move them all.
"""

import functools
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from experiments.datasets._builders import LabelledBuilder, png
from experiments.datasets._understood import RULES, looked
from experiments.folders.classes import class_folders, signs_of_masks
from experiments.folders.splits import SPLITS, grouped, split_classes, split_pictures
from zoo.data.images import read_image


class ClassFolders(LabelledBuilder, skip_registration=True):
    """Folders of classes.

    A subclass's `split_names` gives the split of each class, or of each picture ("class/file").
    """

    def source_files(self) -> list[Path]:
        """Raises ValueError for the first fault; `python -m zoo check` names all."""
        found = class_folders(self.path)
        if found.faults:
            first, path = found.faults[0], shlex.quote(str(self.path))
            more = f"python -m zoo check {path} names all faults"
            raise ValueError(f"{first.file} {first.what}: {first.remedy}; {more}.")
        if not found.files:
            if signs := signs_of_masks(self.path):
                what = "holds pictures and masks, or one kind of them, and no folders of classes"
                what += f" ({signs})"
                hint = (
                    "masks are for segment_folder; data.path is the folder right above the classes"
                )
                hint += ", none of which may be named as masks are"
                raise ValueError(f"{self.path} {what}; {hint}.")
            raise ValueError(f"{self.path} holds no folders; it needs one for each class.")
        self.given, self.aside = any(split for split, _ in found.files), found.aside
        files = [(split, file) for (split, _), some in found.files.items() for file in some]
        self.files = {file.relative_to(self.path).as_posix(): file for _, file in files}
        self.classes = list(dict.fromkeys(name for _, name in found.files))
        splits = {} if self.given else self.split_names(self.classes, list(self.files))
        self.parts = {split: [] for split in SPLITS}
        for (split, file), name in zip(files, self.files, strict=True):
            split = split or splits.get(file.parent.name) or splits[name]
            self.parts[split].append((name, file))
        return list(self.files.values())

    def _generate_examples(self, files: list[tuple[str, Path]]) -> Iterator[tuple[str, dict]]:
        ids = {name: i for i, name in enumerate(self.classes)}
        for name, file in files:
            image = png(read_image(file, self.CHANNELS))
            yield name, {"image": image, "label": ids[file.parent.name], "name": name}


class ImageFolderClasses(ClassFolders):
    """See the module. Pictures of any size, in 3 or 1 `channels`.

    With `split_by="class"` a class is in one split only, to tell apart what was not trained; with
    "example" each picture is drawn for itself. The shares are to be expected; 0 leaves a split out.
    Another `split_seed` draws others.
    What `group`, a regular expression, finds in a picture's path, or its parentheses hold of that,
    keeps pictures of one finding, and with "class" their classes, in one split ("session[0-9]+").
    """

    VERSION = tfds.core.Version(f"1.{RULES}.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "give the one with a folder of pictures a class as data.path."
    OPTIONS: Mapping = dict(
        split_by="class", channels=3, group="", validation_share=0.2, test_share=0.2, split_seed=0
    )

    def set_up(self) -> None:
        if self.split_by not in ("class", "example") or self.channels not in (1, 3):
            takes = 'split_by="class" or "example" and channels=1 or 3'
            got = f"{self.split_by!r} and {self.channels!r}"
            raise ValueError(f"image_folder_classes takes {takes}, not {got}.")
        try:
            re.compile(self.group)
        except (re.error, TypeError) as error:
            raise ValueError(f"group={self.group!r} is no regular expression ({error}).") from error
        self.CHANNELS = self.channels
        self.MEAN, self.STD = (0.5,) * self.channels, (0.25,) * self.channels

    @functools.cached_property
    def looks(self) -> dict:
        """What is seen in the pictures, see `looked`."""
        return looked(list(self.files.values()))

    @functools.cached_property
    def groups(self) -> dict[str, str]:
        """What stands for each picture's group, see `grouped`."""
        return grouped(list(self.files), self.looks["near"], self.group)

    def split_names(self, classes: list[str], pictures: list[str]) -> dict[str, str]:
        shares = self.validation_share, self.test_share, self.split_seed
        if self.split_by == "class":
            return split_classes(self.class_of(), self.groups, *shares)
        splits, _ = split_pictures(dict.fromkeys(pictures, ""), self.groups, *shares)
        return {name: split for split, names in splits.items() for name in names}

    def class_of(self) -> dict[str, str]:
        """The class of each picture."""
        return {name: file.parent.name for name, file in self.files.items()}
