"""MNIST, or any set in its IDX files, gzipped or not: Fashion-MNIST, KMNIST, EMNIST.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 1998; the format: http://yann.lecun.com/exdb/mnist/. A file is a magic
number, its sizes and bytes. Pictures are taken as they lie: EMNIST's are transposed.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.datasets._builders import LabelledBuilder, png

# "t10k-images-idx3-ubyte.gz", "train-labels.idx1-ubyte", "emnist-letters-test-images-idx3-ubyte".
FILE = re.compile(r"(?:.*-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?")
FORM = "train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] or t10k-... of both"


class MnistIdx(LabelledBuilder):
    """The splits are `train` and `test`, as far as there are files; classes, 0..highest label."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"give the one with {FORM} as data.path."
    CHANNELS = 1
    MEAN, STD = (0.1325,), (0.3105,)  # Of MNIST's test digits; another set's differ.

    def source_files(self) -> list[Path]:
        """Raises ValueError for files that are missing, double or damaged."""
        files: dict[tuple[str, str], Path] = {}
        for file in sorted(self.path.iterdir()):
            if match := FILE.fullmatch(file.name):
                key = "train" if match[1] == "train" else "test", match[2]
                if key in files:
                    raise ValueError(f"{files[key]} and {file} are both {key}; take one away.")
                files[key] = file
        splits = [s for s in ("train", "test") if {(s, "images"), (s, "labels")} & set(files)]
        for key in [(s, kind) for s in splits or ["train"] for kind in ("images", "labels")]:
            if key not in files:
                raise ValueError(f"{self.path} lacks the {' '.join(key)}; it needs {FORM}.")
        self.parts = {s: (files[s, "images"], files[s, "labels"]) for s in splits}
        highest = max(read_idx(labels, 1).max() for _, labels in self.parts.values())
        self.classes = list(map(str, range(highest + 1)))
        return list(files.values())

    def _generate_examples(self, files: tuple[Path, Path]) -> Iterator[tuple[str, dict]]:
        images, labels = read_idx(files[0], 3), read_idx(files[1], 1)
        if len(images) != len(labels):
            got = f"holds {len(images)} pictures, but {files[1]} {len(labels)} labels"
            raise ValueError(f"{files[0]} {got}; take both from one set.")
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = f"{files[0].name.partition('-images')[0]}_{i:05d}"
            yield name, {"image": png(image), "label": int(label), "name": name}


def read_idx(file: Path, ndim: int) -> np.ndarray:
    """The uint8 array of `ndim` dimensions in an IDX file, unpacked where its name ends in .gz.

    Raises ValueError for another magic number, another number of bytes, none, or damaged gzip.
    """
    again = "copy or download it again"
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{file} cannot be read ({error}); {again}.") from error
    magic, start = bytes([0, 0, 8, ndim]), 4 + 4 * ndim  # 8: unsigned bytes.
    if data[:4] != magic or len(data) < start:
        wanted = f"0x{magic.hex()} and {ndim} sizes as an IDX file does"
        raise ValueError(f"{file} begins with 0x{data[:4].hex()}, not with {wanted}; {again}.")
    shape = struct.unpack(f">{ndim}I", data[4:start])
    if not 0 < len(data) - start == math.prod(shape):
        got = f"{len(data) - start} bytes where {'x'.join(map(str, shape))} are promised"
        raise ValueError(f"{file} holds {got}; it is empty or damaged: {again}.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
