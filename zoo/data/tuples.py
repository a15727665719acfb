"""Training batches whose rows are one picture, a pair or a triplet of them, by Grain.

As in `zoo.data.batches`, what a batch holds depends on the seed and the step alone. A source is a
sequence of {"image", "label", "name"} with `labels` and `info`, as `open_labelled` gives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import grain
import numpy as np

from zoo.data.augment import augment
from zoo.data.batches import Batch, padded_batches, share, stacked
from zoo.data.config import Data
from zoo.data.images import Preprocess

Places = Callable[[int], Sequence[int]]  # Of the pictures of row i in a source.
ENDLESS = 2**40  # Rows; a length that no run reaches.


class Turned(Sequence):
    """A source with each picture in eight positions, of another class in each.

    Turned by quarters, and mirrored. Santoro et al., "Meta-Learning with Memory-Augmented Neural
    Networks", ICML 2016, Sec. 4, have the four turns of a character.
    """

    def __init__(self, source: Sequence):
        self.source, self.info = source, source.info
        labels = np.unique(source.labels, return_inverse=True)[1]
        self.labels = np.concatenate([8 * labels + k for k in range(8)]).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        position, place = divmod(range(len(self))[index], len(self.source))
        example = self.source[place]
        image = np.rot90(example["image"], position % 4)
        image = image[:, ::-1] if position >= 4 else image
        return {**example, "image": image, "label": self.labels[index]}


def tuple_batches(
    source: Sequence, places: Places, data: Data, preprocess: Preprocess, *, seed: int, **where: int
) -> grain.MapDataset:
    """An endless data set whose item n is this process's share of the batch of step n.

    Row i of the training, i >= 0, holds the pictures at m `places` in the source, which must depend
    on nothing but i. Each is augmented by itself, then resized. Returns {"image": [b, m, h, w, c]
    float32, "label": [b, m] int32, "weight": [b] float32, ones}; the rest is as of `train_batches`.
    """
    outside = {"ignore_label": 0, "fill": tuple(255 * mean for mean in preprocess.mean)}

    def changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        unused = np.zeros(image.shape[:2], np.uint8)  # It has no pixels' labels.
        # Before the picture shrinks to `data.size`: so little is lost by interpolation.
        return preprocess(augment(image, unused, rng, data.augment, crop=data.crop, **outside)[0])

    def prepare(row: int, rng: np.random.Generator) -> list[dict]:
        examples = [source[int(place)] for place in places(row)]
        return [{**example, "image": changed(example["image"], rng)} for example in examples]

    rows, mine = share(data.batch_size, **where)
    examples = grain.MapDataset.range(ENDLESS).seed(seed).random_map(prepare)
    return examples[mine].batch(rows, batch_fn=_stacked)


def picture_batches(source: Sequence, data: Data, preprocess: Preprocess, **where: int) -> Iterator:
    """Every picture once, in order: {"image": [b, h, w, c], "weight": [b]}, see `eval_batches`."""

    def prepare(example: Mapping) -> dict:
        return {"image": preprocess(example["image"])}

    return padded_batches(source, prepare, threads=data.threads, **where)


def _stacked(rows: Sequence[Sequence[Mapping]]) -> Batch:
    batch = stacked([example for row in rows for example in row])
    batch = {key: array.reshape(len(rows), -1, *array.shape[1:]) for key, array in batch.items()}
    return {**batch, "weight": batch["weight"][:, 0]}
