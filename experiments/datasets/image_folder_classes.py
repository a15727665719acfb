"""Any folder of classes: ROOT/class/picture, with the class of a picture told by its folder.

ROOT/train/class, ROOT/val/class and, if wished, ROOT/test/class give the splits. Others are drawn
by a hash of the name of the class, or of the class and the file, so what is added or taken away
moves nothing else from one split to another.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.datasets._builders import LabelledBuilder, png
from experiments.datasets._chosen import SPLITS, split_by_hash
from experiments.datasets._files import visible
from experiments.folders.layouts import split_of
from zoo.data.images import read_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".bmp")


class ClassFolders(LabelledBuilder, skip_registration=True):
    """Folders of classes.

    A subclass's `split_names` gives the split of each class, or of each picture ("class/file").
    """

    def source_files(self) -> list[Path]:
        """Raises ValueError where there is no class, or one has fewer than two pictures."""
        files: dict[str, Path] = {}
        folders = [folder for folder in visible(self.path) if folder.is_dir()]
        # ROOT/train/class and ROOT/val/class: the splits are given.
        self.given = len({split_of(f.name) for f in folders} - {""}) > 1
        if self.given and not all(split_of(folder.name) for folder in folders):
            other = next(folder for folder in folders if not split_of(folder.name))
            raise ValueError(f"{other} lies beside folders of splits: move it into one of them.")
        inner = (f for folder in folders for f in visible(folder) if f.is_dir())
        for folder in inner if self.given else folders:
            held = [f for f in visible(folder) if f.suffix.lower() in SUFFIXES and f.is_file()]
            if len(held) < 2:
                got = f"{len(held)} of the pictures ({', '.join(SUFFIXES)}), but a class needs two"
                raise ValueError(f"{folder} holds {got}: add some or take the folder away.")
            files |= {file.relative_to(self.path).as_posix(): file for file in held}
        if not files:
            raise ValueError(f"{self.path} holds no folders; it needs one for each class.")
        self.classes = list(dict.fromkeys(file.parent.name for file in files.values()))
        self.parts = {split: [] for split in SPLITS}
        splits = {} if self.given else self.split_names(self.classes, list(files))
        for name, file in files.items():
            split = split_of(name.split("/")[0]) if self.given else None
            split = split or splits.get(file.parent.name) or splits[name]
            self.parts[split].append((name, file))
        if self.given and not (self.parts["train"] and self.parts["validation"]):
            raise ValueError(
                f"{self.path} gives splits, but not both train/ and val/; add the other."
            )
        return list(files.values())

    def _generate_examples(self, files: list[tuple[str, Path]]) -> Iterator[tuple[str, dict]]:
        ids = {name: i for i, name in enumerate(self.classes)}
        for name, file in files:
            image = png(read_image(file, self.CHANNELS))
            yield name, {"image": image, "label": ids[file.parent.name], "name": name}


class ImageFolderClasses(ClassFolders):
    """See the module. Pictures of any size, in 3 or 1 `channels`.

    With `split_by="class"` a class is in one split only, to tell apart what was not trained; with
    "example" each picture is drawn for itself. The shares are to be expected; 0 leaves a split out.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = "give the one with a folder of pictures a class as data.path."
    OPTIONS: Mapping = dict(split_by="class", channels=3, validation_share=0.2, test_share=0.2)

    def set_up(self) -> None:
        if self.split_by not in ("class", "example") or self.channels not in (1, 3):
            takes = 'split_by="class" or "example" and channels=1 or 3'
            got = f"{self.split_by!r} and {self.channels!r}"
            raise ValueError(f"image_folder_classes takes {takes}, not {got}.")
        self.CHANNELS = self.channels
        self.MEAN, self.STD = (0.5,) * self.channels, (0.25,) * self.channels

    def split_names(self, classes: list[str], pictures: list[str]) -> dict[str, str]:
        names = classes if self.split_by == "class" else pictures
        return split_by_hash(names, self.validation_share, self.test_share)
