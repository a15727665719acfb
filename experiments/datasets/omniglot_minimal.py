"""Omniglot's two "minimal" background sets: 242 characters of 8 alphabets, each drawn by 20 hands.

Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program
induction", Science 2015: https://github.com/brendenlake/omniglot (python/). The two archives share
Greek and Latin, of which one copy is taken: 4,840 drawings. They are read where they lie.
"""

import contextlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.datasets._builders import LabelledBuilder, png
from experiments.datasets._chosen import split_by_name
from experiments.folders.splits import SPLITS
from zoo.data.images import resize_image

ARCHIVES = ("images_background_small1.zip", "images_background_small2.zip")
MEMBER = re.compile(r"[^/]+/([^/]+)/(character\d+)/(\d+_(\d+))\.png")


class OmniglotMinimal(LabelledBuilder):
    """See the module. Ink is 0, paper 255; 105 px are shrunk to `size` by averaging over areas.

    `validation_alphabets`, `test_alphabets` are lists such as "Balinese,Latin"; all others train.
    `label` is the character among all 242, `group` the alphabet, `drawer` the hand, 1..20.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"give the one with {' and '.join(ARCHIVES)} as data.path."
    CHANNELS = 1
    MEAN, STD = (0.9169,), (0.2760,)  # At 105 px; at 28 the deviation is 0.2363.
    OPTIONS: Mapping = dict(
        validation_alphabets="Early_Aramaic", test_alphabets="Balinese,Latin", size=105,
    )  # fmt: skip
    MORE = ("group", "drawer")

    def set_up(self) -> None:
        if not 1 <= self.size <= 105:
            raise ValueError(f"omniglot_minimal shrinks to 1 to 105 px, not {self.size}.")

    def source_files(self) -> list[Path]:
        archives, drawings = [self.path / archive for archive in ARCHIVES], {}
        for archive in archives:
            for match in filter(None, map(MEMBER.fullmatch, members(archive))):
                drawings.setdefault(match.groups(), (archive, match))
        self.classes = sorted({f"{key[0]}/{key[1]}" for key in drawings})
        self.groups = sorted({key[0] for key in drawings})
        lists = {o: self.options[o] for o in ("validation_alphabets", "test_alphabets")}
        chosen = {o: [a.strip() for a in str(t).split(",") if a] for o, t in lists.items()}
        splits = split_by_name(self.groups, chosen)
        self.parts = {split: [] for split in SPLITS}
        for key in sorted(drawings):
            self.parts[splits[key[0]]].append(drawings[key])
        return archives

    def _generate_examples(self, drawings: list[tuple]) -> Iterator[tuple[str, dict]]:
        with contextlib.ExitStack() as stack:
            files = {a: stack.enter_context(zipfile.ZipFile(a)) for a in {a for a, _ in drawings}}
            for archive, match in drawings:
                alphabet, character, drawing, drawer = match.groups()
                pixels = resize_image(read_drawing(files[archive], match[0]), (self.size,) * 2)
                label = self.classes.index(f"{alphabet}/{character}")
                more = {"group": self.groups.index(alphabet), "drawer": int(drawer)}
                name = f"{alphabet}/{character}/{drawing}"
                yield name, {"image": png(pixels), "label": label, "name": name, **more}


def members(archive: Path) -> list[str]:
    """The names in an archive; ValueError where it is cut short or one leads out of it."""
    try:
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
    except zipfile.BadZipFile as error:
        problem = f"{archive} cannot be read ({error})"
        raise ValueError(f"{problem}; it may be cut short: download it again.") from error
    for name in names:
        if ".." in re.split(r"[/\\]", name) or re.match(r"[/\\]|\w:", name):
            raise ValueError(f"{archive} holds {name!r}, a name that leads out of it; get it anew.")
    return names


def read_drawing(file: zipfile.ZipFile, member: str) -> np.ndarray:
    """[h, w, 1] uint8; ValueError where it is damaged."""
    try:
        with Image.open(io.BytesIO(file.read(member))) as image:
            return np.array(image.convert("L"))[..., None]
    # RuntimeError: encrypted, or packed by a method that Python lacks.
    except (OSError, EOFError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        problem = f"{member} of {file.filename} cannot be read ({error})"
        raise ValueError(f"{problem}; download the archive again.") from error
