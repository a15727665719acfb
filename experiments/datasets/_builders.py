"""The two kinds of our data sets: pictures with masks, and pictures of one class each."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.datasets._files import Pair, read_pair
from experiments.datasets._prepared import Builder


def png(pixels: np.ndarray) -> io.BytesIO:
    """[h, w], [h, w, 1] or [h, w, 3] uint8 as a PNG file in memory, packed fast."""
    buffer = io.BytesIO()  # TFDS takes a file object as it is; an array would need TensorFlow.
    pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    buffer.seek(0)
    return buffer


class SegmentationBuilder(Builder, skip_registration=True):
    """A segmentation data set of ours: pictures, masks (`label`), names, and what the ids mean."""

    CLASS_NAMES: tuple[str, ...]
    COLOURS: tuple[tuple[int, int, int], ...]
    IGNORE_LABEL = 255

    def meanings(self) -> tuple[dict, dict]:
        label = tfds.features.Image(shape=(None, None, 1), encoding_format="png", use_colormap=True)
        told = {"class_names": list(self.CLASS_NAMES), "colours": list(map(list, self.COLOURS))}
        return {"label": label}, {**told, "ignore_label": self.IGNORE_LABEL}

    def ids(self, mask: np.ndarray, file: Path) -> np.ndarray:
        """The class ids of a mask as its file holds them; ValueError for what stands for none."""
        return mask

    def _generate_examples(self, pairs: Sequence[Pair]) -> Iterator[tuple[str, dict]]:
        for pair in pairs:
            image, mask = read_pair(pair, self.CHANNELS)
            label, name = self.ids(mask, pair[1]), pair[0].stem
            yield name, {"image": png(image), "label": png(label), "name": name}


class LabelledBuilder(Builder, skip_registration=True):
    """A data set of ours with one class (`label`) a picture, among the `classes` of all splits."""

    MORE: tuple[str, ...] = ()  # Further features, integers: "group", "drawer".
    classes: Sequence[str] = ()  # Names by id; `source_files` may set them.

    def meanings(self) -> tuple[dict, dict]:
        # Not ClassLabel(names=...): TFDS strips blanks off, and a folder's name may have some.
        label = tfds.features.ClassLabel(num_classes=len(self.classes))
        more = {name: tfds.features.Scalar(np.int32) for name in self.MORE}
        return {"label": label, **more}, {"class_names": list(self.classes)}
