"""Training batches whose rows are one picture, a pair or a triplet of them, by Grain.

As in `zoo.data.batches`, what a batch holds depends on the seed and the step alone. A source is a
sequence of {"image", "label", "name"} with `labels` and `info`, as `open_labelled` gives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import grain
import numpy as np

from zoo.data.augment import augment
from zoo.data.batches import Batch, padded_batches, share
from zoo.data.config import Data
from zoo.data.images import Preprocess

ENDLESS = 2**40  # Rows; a length that no run reaches.


class Tuples(Sequence):
    """Row i of the training: the examples of a source at the places `places(i)`."""

    def __init__(self, source: Sequence, places: Callable[[int], Sequence[int]]):
        self.source, self.places = source, places

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, row: int) -> list[dict]:
        return [self.source[int(place)] for place in self.places(row)]


class MoreClasses(Sequence):
    """A source that tells more apart than its labels do.

    With `turns`, a picture in each of its eight positions (turned by quarters, and mirrored) is of
    another class: Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML 2016,
    Sec. 4, have the four turns of a character. With `pictures`, each picture is a class of its own,
    whose examples are its augmentations: Dosovitskiy et al., "Discriminative Unsupervised Feature
    Learning with Exemplar Convolutional Neural Networks", NIPS 2014.
    """

    def __init__(self, source: Sequence, *, turns: bool, pictures: bool):
        self.source, self.info = source, source.info
        labels = np.arange(len(source))
        if not pictures:
            labels = np.unique(source.labels, return_inverse=True)[1]
        count = 8 if turns else 1
        self.labels = np.concatenate([count * labels + k for k in range(count)]).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        position, place = divmod(index, len(self.source))
        example = self.source[place]
        image = np.rot90(example["image"], position % 4)
        image = image[:, ::-1] if position >= 4 else image
        return {**example, "image": image, "label": self.labels[index]}


def tuple_batches(
    source: Sequence,
    places: Callable[[int], Sequence[int]],
    data: Data,
    preprocess: Preprocess,
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """An endless data set whose item n is this process's share of the batch of step n.

    Args:
        places: row i of the training, i >= 0, as m places in the source; it must not depend on
            anything but i. Each picture is augmented by itself, then resized.

    Returns:
        A data set of {"image": [b, m, h, w, c] float32, "label": [b, m] int32, "weight": [b]
        float32, ones}, where b is `data.batch_size / process_count`.

    Raises:
        ValueError: the batch does not divide by the processes; on access, pictures differ in size.
    """
    rows = share(data.batch_size, process_count)
    fill = tuple(255 * mean for mean in preprocess.mean)

    def prepare(examples: Sequence[Mapping], rng: np.random.Generator) -> dict:
        images = []
        for example in examples:
            unused = np.zeros(example["image"].shape[:2], np.uint8)  # It has no pixels' labels.
            # Before the picture shrinks to `data.size`: so little is lost by interpolation.
            image, _ = augment(
                example["image"],
                unused,
                rng,
                data.augment,
                crop=data.crop,
                ignore_label=0,
                fill=fill,
            )
            images.append(preprocess(image))
        labels, names = ([example[key] for example in examples] for key in ("label", "name"))
        return {"images": images, "labels": labels, "names": names}

    examples = grain.MapDataset.source(Tuples(source, places)).seed(seed).random_map(prepare)
    return examples[process_index::process_count].batch(rows, batch_fn=_stacked)


def picture_batches(
    source: Sequence, data: Data, preprocess: Preprocess, **where: int
) -> Iterator[Batch]:
    """Every picture once, in order: {"image": [b, h, w, c], "weight": [b]}, see `eval_batches`."""

    def prepare(example: Mapping) -> dict:
        return {"image": preprocess(example["image"])}

    return padded_batches(source, prepare, threads=data.threads, **where)


def _stacked(rows: Sequence[Mapping]) -> Batch:
    images = [image for row in rows for image in row["images"]]
    for image, name in zip(images, [name for row in rows for name in row["names"]], strict=True):
        if image.shape != images[0].shape:
            got = f"{rows[0]['names'][0]} is {images[0].shape[:2]} and {name} {image.shape[:2]}"
            hint = "set data.size (resizes) or data.crop (cuts and pads)"
            problem = f"{got} (h, w), but pictures of one batch must be of one size"
            raise ValueError(f"{problem}: {hint}.")
    return {
        "image": np.stack(images).reshape(len(rows), -1, *images[0].shape),
        "label": np.array([row["labels"] for row in rows], np.int32),
        "weight": np.ones(len(rows), np.float32),
    }
