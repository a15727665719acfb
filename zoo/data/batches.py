"""Batches for training and evaluation, by Grain.

A training batch is an item of a random-access `MapDataset`, so what it holds depends on the seed
and the step alone: there is no iterator state to save. Evaluation sees every picture once, in
order. A source is a sequence of {"image", "label", "name"} with an `info`, as `open_source` gives.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import grain
import numpy as np

from zoo.data.augment import augment
from zoo.data.border_weights import border_weights
from zoo.data.config import Data
from zoo.data.images import Preprocess

Batch = dict[str, np.ndarray]


def train_batches(
    source: Sequence, data: Data, preprocess: Preprocess, *, seed: int, **where: int
) -> grain.MapDataset:
    """An endless data set whose item n is this process's share of the batch of step n.

    Every epoch has another order and other augmentations, and a batch may reach into the next.
    `where` tells `process_index` and `process_count`, 0 and 1 by default. Returns {"image": [b, h,
    w, c] float32, "label": [b, h, w] int32, "weight": [b] float32, ones}, where b is
    `data.batch_size / process_count`, with border weights also "border": [b, h, w] float32. Raises
    ValueError where the source is empty, the seed has more than 32 bits or the batch does not
    divide by the processes; on access, where pictures of one batch differ in size.
    """
    if len(source) == 0:
        raise ValueError(f"{source.info.name} has no example to train on; choose another split.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"The seed must lie in 0..{2**32 - 1}; got {seed}.")
    fill = tuple(255 * mean for mean in preprocess.mean)
    outside = {"ignore_label": source.info.ignore_label, "fill": fill}

    def prepare(example: Mapping, rng: np.random.Generator) -> dict:
        image, label = resized(example, preprocess)
        image = image.astype(np.float32)
        image, label = augment(image, label, rng, data.augment, crop=data.crop, **outside)
        image = dataclasses.replace(preprocess, size=None)(image)
        prepared = {"image": image, "label": label, "name": example["name"]}
        if data.border_weight:  # Of the changed label: a zoom changes the distances.
            how = {"cell": data.border_class, "weight": data.border_weight}
            prepared["border"] = border_weights(label, source.info.ignore_label, **how)
        return prepared

    rows, mine = share(data.batch_size, **where)
    # Not `repeat(None)`: batches of one of those are too many for Grain to cut their start off.
    examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat(2**62 // len(source))
    return examples.random_map(prepare)[mine].batch(rows, batch_fn=stacked)


def resized(example: Mapping, preprocess: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask at `preprocess.size`, in 0..255: normalised after the augmentation."""
    if preprocess.size is None:
        return example["image"], example["label"]
    none, one = (0.0,) * preprocess.channels, (1.0,) * preprocess.channels
    image = dataclasses.replace(preprocess, mean=none, std=one)(example["image"])
    return image * np.float32(255), resize_label(example["label"], preprocess.size)


def iterate(items: grain.MapDataset, start: int, threads: int, ahead: int = 0) -> Iterator:
    """Items from `start` on; threads that end with it prepare `ahead`, or two each, before time."""
    most = max(2 * threads, ahead)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=most)
    return iter(items[start:].to_iter_dataset(options))


def eval_batches(source: Sequence, data: Data, preprocess: Preprocess, **where: int) -> Iterator:
    """Every picture of a source once, in order.

    Yields {"image": [b, h, w, c] float32, "label": [b, h', w'] int32, "weight": [b] float32}: (h',
    w') is the label's own size, or the picture's where `data.score_at` is "input"; b and `where`,
    which tells `batch_size` too, are those of `padded_batches`.
    """

    def prepare(example: Mapping) -> dict:
        label = example["label"]
        if preprocess.size is not None and data.score_at == "input":
            label = resize_label(label, preprocess.size)
        return {"image": preprocess(example["image"]), "label": label.astype(np.int32)}

    return padded_batches(source, prepare, threads=data.threads, **where)


def padded_batches(
    source: Sequence,
    prepare: Callable[..., dict],
    *,
    threads: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """The arrays that `prepare` makes of each example, b = `batch_size / process_count` at a time.

    Consecutive pictures of one size share a batch; the next size starts a new one. A batch that is
    not full is filled with rows of weight 0, image 0 and void labels. Process p of P has the p-th
    P-th of the rows. Which pictures share a batch follows from all their sizes, so every process
    decodes all of them, and all yield equally many batches. Raises ValueError as `share`.
    """
    rows, _ = share(batch_size, process_index, process_count)
    examples = iterate(grain.MapDataset.source(source).map(prepare), 0, threads, batch_size)
    void = source.info.ignore_label
    block = slice(process_index * rows, (process_index + 1) * rows)
    alike = runs(examples, batch_size, key=lambda e: [array.shape for array in e.values()])
    return (_filled(together[block], rows, together[0], void) for together in alike)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w] uint8 -> [*size], each pixel the nearest one's by their centres, of two the later."""
    # By integers: OpenCV's INTER_NEAREST takes the pixel half a step up and to the left, and which
    # one its INTER_NEAREST_EXACT takes depends on OpenCV's version and the processor.
    sides = zip(size, label.shape, strict=True)
    rows, columns = ((2 * np.arange(to) + 1) * was // (2 * to) for to, was in sides)
    return label[np.ix_(rows, columns)]


def share(batch_size: int, process_index: int = 0, process_count: int = 1) -> tuple[int, slice]:
    """The rows of one process, and which examples are its own: p, p + P, p + 2P ... of P processes.

    They are taken after `random_map`, which seeds by the index: it must not depend on the
    processes. Raises ValueError where a batch does not split evenly over them.
    """
    rows, rest = divmod(batch_size, process_count)
    if rest:
        near = " or ".join(str(n * process_count) for n in (rows, rows + 1) if n)
        problem = f"A batch of {batch_size} does not split evenly over {process_count} processes"
        raise ValueError(f"{problem}; the nearest that does is {near} (data.batch_size).")
    return rows, slice(process_index, None, process_count)


def stacked(examples: Sequence[Mapping]) -> Batch:
    """Examples as a batch, each of weight 1; ValueError where two pictures differ in size."""
    sizes = {example["image"].shape[:2]: example["name"] for example in examples}
    if len(sizes) > 1:
        (size, name), (other_size, other), *_ = sizes.items()
        problem = f"{name} is {size} and {other} {other_size} (h, w), but a batch has one size"
        raise ValueError(f"{problem}: set data.crop (cuts and pads) or data.size (resizes).")
    batch = {k: np.stack([e[k] for e in examples]) for k in examples[0] if k != "name"}
    weights = np.ones(len(examples), np.float32)
    return {**batch, "label": batch["label"].astype(np.int32), "weight": weights}


def runs(items: Iterable, most: int, *, key: Callable) -> Iterator[list]:
    """Lists of at most `most` consecutive items of one key, such as their size."""
    for _, run in itertools.groupby(items, key):
        while together := list(itertools.islice(run, most)):
            yield together


def _filled(examples: Sequence[Mapping], rows: int, like: Mapping, ignore_label: int) -> Batch:
    """`rows` rows of `like`'s shapes, the first of them `examples`; the others are void."""
    batch = {"weight": (np.arange(rows) < len(examples)).astype(np.float32)}
    for key, array in like.items():
        void = np.full_like(array, ignore_label if key == "label" else 0)
        rest = [void] * (rows - len(examples))
        batch[key] = np.stack([example[key] for example in examples] + rest)
    return batch
