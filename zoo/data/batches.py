"""Batches for training and evaluation, by Grain.

A training batch is an item of a random-access `MapDataset`, so what it holds depends on the seed
and the step alone: there is no iterator state to save. Evaluation sees every picture once, in
order. A source is a sequence of {"image", "label", "name"} with an `info`, as `open_source` gives.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import grain
import numpy as np

from zoo.data.augment import augment
from zoo.data.config import Data
from zoo.data.images import Preprocess

Batch = dict[str, np.ndarray]


def train_batches(
    source: Sequence,
    data: Data,
    preprocess: Preprocess,
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """An endless data set whose item n is this process's share of the batch of step n.

    Every epoch has another order and other augmentations, and a batch may reach into the next. Of
    a batch, process p of P has the examples p, p + P, p + 2P ...

    Returns:
        A data set of {"image": [b, h, w, c] float32, "label": [b, h, w] int32, "weight": [b]
        float32, ones}, where b is `data.batch_size / process_count`.

    Raises:
        ValueError: the batch does not divide by the processes, the source is empty, or the seed
            has more than 32 bits; on access, pictures of one batch differ in size.
    """
    rows = share(data.batch_size, process_count)
    if len(source) == 0:
        raise ValueError(f"{source.info.name} has no example to train on; choose another split.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"The seed must lie in 0..{2**32 - 1}; got {seed}.")

    def prepare(example: Mapping, rng: np.random.Generator) -> dict:
        image, label = example["image"].astype(np.float32), example["label"]
        if preprocess.size is not None:
            # Resizing alone: the result stays in 0..255 and is normalised after the augmentation.
            none, one = (0.0,) * preprocess.channels, (1.0,) * preprocess.channels
            image = dataclasses.replace(preprocess, mean=none, std=one)(image) * np.float32(255)
            label = resize_label(label, preprocess.size)
        fill, void = tuple(255 * mean for mean in preprocess.mean), source.info.ignore_label
        image, label = augment(
            image, label, rng, data.augment, crop=data.crop, ignore_label=void, fill=fill
        )
        image = dataclasses.replace(preprocess, size=None)(image)
        return {"image": image, "label": label, "name": example["name"]}

    examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat(None)
    # Before the split: `random_map` seeds by the index, which must not depend on the processes.
    examples = examples.random_map(prepare)
    return examples[process_index::process_count].batch(rows, batch_fn=_stacked)


def iterate(batches: grain.MapDataset, start: int, threads: int) -> Iterator[Batch]:
    """Items `start`, `start + 1` ..., prepared ahead by threads that end with the iterator."""
    return _read_ahead(batches[start:], threads, 2 * threads)


def eval_batches(
    source: Sequence, data: Data, preprocess: Preprocess, **where: int
) -> Iterator[Batch]:
    """Every picture of a source once, in order.

    Consecutive pictures of one size share a batch; the next size starts a new one. A batch that is
    not full is filled with rows of weight 0, image 0 and void labels. Process p of P has the p-th
    P-th of the rows. Which pictures share a batch follows from all their sizes, so every process
    decodes all of them, and all yield equally many batches.

    Args:
        where: `batch_size`, over all processes; `process_index` 0 and `process_count` 1.

    Returns:
        An iterator of {"image": [b, h, w, c] float32, "label": [b, h', w'] int32, "weight": [b]
        float32}; b is `batch_size / process_count`, (h', w') the label's own size, or the
        picture's where `data.score_at` is "input".

    Raises:
        ValueError: the batch does not divide by the processes.
    """
    label_size = preprocess.size if data.score_at == "input" else None

    def prepare(example: Mapping) -> dict:
        label = example["label"]
        label = label if label_size is None else resize_label(label, label_size)
        return {"image": preprocess(example["image"]), "label": label.astype(np.int32)}

    return padded_batches(source, prepare, threads=data.threads, **where)


def padded_batches(
    source: Sequence,
    prepare: Callable[[Mapping], Mapping],
    *,
    threads: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """As `eval_batches`, of the arrays that `prepare` makes of an example."""
    rows = share(batch_size, process_count)
    examples = grain.MapDataset.source(source).map(prepare)
    examples = _read_ahead(examples, threads, max(batch_size, threads))
    mine = slice(process_index * rows, (process_index + 1) * rows)
    return (
        _filled(together[mine], rows, together[0], source.info.ignore_label)
        for together in _runs(examples, batch_size)
    )


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w] uint8 -> [*size], each pixel the nearest one's, by their centres as in Pillow."""
    # By integers: OpenCV's INTER_NEAREST takes the pixel half a step up and to the left, and which
    # one its INTER_NEAREST_EXACT takes depends on OpenCV's version and the processor.
    rows, columns = (
        (2 * np.arange(to) + 1) * was // (2 * to) for to, was in zip(size, label.shape, strict=True)
    )
    return label[np.ix_(rows, columns)]


def share(batch_size: int, process_count: int) -> int:
    """The rows of one process. Raises ValueError where they are not equally many."""
    if batch_size % process_count:
        below = batch_size // process_count * process_count
        nearest = [str(n) for n in (below, below + process_count) if n]
        problem = f"A batch of {batch_size} does not divide by {process_count} processes"
        hint = f"the nearest that does is {' or '.join(nearest)} (data.batch_size)"
        raise ValueError(f"{problem}; {hint}.")
    return batch_size // process_count


def _stacked(examples: Sequence[Mapping]) -> Batch:
    first = examples[0]
    for other in examples[1:]:
        if other["image"].shape != first["image"].shape:
            raise ValueError(
                f"{first['name']} is {first['image'].shape[:2]} and {other['name']} "
                f"{other['image'].shape[:2]} (h, w), but pictures of one batch must be of one "
                f"size: set data.crop (cuts and pads) or data.size (resizes)."
            )
    return {
        "image": np.stack([example["image"] for example in examples]),
        "label": np.stack([example["label"] for example in examples]).astype(np.int32),
        "weight": np.ones(len(examples), np.float32),
    }


def _runs(examples: Iterator[dict], most: int) -> Iterator[list[dict]]:
    """Lists of at most `most` consecutive examples of one size."""
    together, last = [], None
    for example in examples:
        shapes = [array.shape for array in example.values()]
        if together and (len(together) == most or shapes != last):
            yield together
            together = []
        together.append(example)
        last = shapes
    if together:
        yield together


def _filled(examples: Sequence[Mapping], rows: int, like: Mapping, ignore_label: int) -> Batch:
    """`rows` rows of `like`'s shapes, the first of them `examples`; the others are void."""
    batch = {"weight": (np.arange(rows) < len(examples)).astype(np.float32)}
    for key, array in like.items():
        void = ignore_label if key == "label" else 0
        batch[key] = np.full((rows, *array.shape), void, array.dtype)
        for row, example in enumerate(examples):
            batch[key][row] = example[key]
    return batch


def _read_ahead(dataset: grain.MapDataset, threads: int, ahead: int) -> Iterator:
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return iter(dataset.to_iter_dataset(options))
