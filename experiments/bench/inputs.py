"""The input pipeline: pictures and masks on disk to batches of floats, an epoch a call.

Files of 480 x 360 px made at run time are decoded, cut at random to 224 x 224, flipped and
normalised. Every side reads the same files anew each epoch with as many workers as there are
cores. The last row keeps decoded pictures in memory, as ours does by default where they fit.
"""

import os
import pathlib
import tempfile

from experiments.bench.row import OURS, Case, Row, Side

BATCH, CROP, CLASSES = 16, 224, 11
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def rows(*, quick: bool) -> list[Row]:
    found = []
    for kind, kept in (("png", False), ("jpg", False), ("png", True)):
        options = {"kind": kind, "count": 2 * BATCH if quick else 16 * BATCH}
        mine = Side(f"{__name__}:ours", {**options, "kept": kept}, ("grain", "cv2"))
        loader = Side(f"{__name__}:by_torch", options, ("torch", "PIL"))
        by_tf = Side(f"{__name__}:by_tensorflow", options, ("tensorflow",))
        sides = {OURS: mine, "torch DataLoader": loader, "tf.data": by_tf}
        what = f"{options['count']} {kind} pictures{', ours kept decoded' if kept else ''}"
        name = f"inputs/{kind}{'_kept' if kept else ''}"
        found.append(Row(name, what, sides, images=options["count"]))
    return found


def files(kind: str, count: int) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Pictures, smooth with a little noise, and masks as PNG; once a machine, in its temporary."""
    import cv2
    import numpy as np

    from zoo.data.images import write_atomically

    folder, rng = (
        pathlib.Path(tempfile.gettempdir(), "zoo-bench-pictures"),
        np.random.default_rng(0),
    )
    folder.mkdir(exist_ok=True)
    pairs = []
    for i in range(count):
        coarse = rng.integers(0, 256, (9, 12, 3)).astype(np.float32)
        image = cv2.resize(coarse, (480, 360), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        mask = cv2.resize(coarse[..., 0], (480, 360)) * CLASSES / 256
        pair = []
        for name, pixels in ((f"{i}.{kind}", image), (f"{i}_mask.png", mask.astype(np.uint8))):
            pair.append(folder / name)
            if not pair[-1].exists():
                data = cv2.imencode(pair[-1].suffix, pixels)[1].tobytes()
                write_atomically(pair[-1], lambda file, data=data: file.write(data))
        pairs.append(tuple(pair))
    return pairs


def ours(*, kind: str, count: int, kept: bool) -> Case:
    from experiments.datasets._files import read_pair
    from zoo.data.augment import Augment
    from zoo.data.batches import iterate, train_batches
    from zoo.data.config import Data
    from zoo.data.images import Preprocess
    from zoo.data.info import Info
    from zoo.data.source import Source

    class Records(list):
        """What TFDS gives, read from the files."""

        def __getitem__(self, index):
            image, label = read_pair(super().__getitem__(index), 3)
            return {"image": image, "label": label}

    names = tuple(map(str, range(CLASSES)))
    info = Info("pictures", CLASSES, names, channels=3, mean=MEAN, std=STD)
    cores, mib = len(os.sched_getaffinity(0)), 1024 if kept else 0
    records, places = Records(files(kind, count)), [("pictures", range(count))]
    source = Source(records, info, ("train",), "pictures", places, "image", "label", mib, 0)
    options = {"crop": (CROP, CROP), "augment": Augment(flip=True), "threads": cores}
    data = Data("pictures", batch_size=BATCH, **options)
    batches = train_batches(source, data, Preprocess(3, MEAN, STD), seed=0)
    epoch, steps = 0, count // BATCH

    def call() -> None:
        nonlocal epoch
        for _ in iterate(batches[: (epoch + 1) * steps], epoch * steps, cores):
            pass
        epoch += 1

    return Case(call)


def by_torch(*, kind: str, count: int) -> Case:
    import numpy as np
    import torch
    from PIL import Image

    class Pictures(torch.utils.data.Dataset):
        pairs = files(kind, count)

        def __len__(self):
            return len(self.pairs)

        def __getitem__(self, index):
            image, mask = (np.asarray(Image.open(path)) for path in self.pairs[index])
            y, x = (torch.randint(0, side - CROP + 1, ()).item() for side in mask.shape)
            image, mask = image[y : y + CROP, x : x + CROP], mask[y : y + CROP, x : x + CROP]
            if torch.rand(()) < 0.5:
                image, mask = image[:, ::-1], mask[:, ::-1]
            image = (image.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
            return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask.astype(np.int64))

    workers = len(os.sched_getaffinity(0))
    options = {"shuffle": True, "num_workers": workers, "persistent_workers": True}
    loader = torch.utils.data.DataLoader(Pictures(), BATCH, drop_last=True, **options)

    def call() -> None:
        for _ in loader:
            pass

    return Case(call, elsewhere=True)


def by_tensorflow(*, kind: str, count: int) -> Case:
    import tensorflow as tf

    def load(image, mask):
        image = tf.io.decode_image(tf.io.read_file(image), 3, expand_animations=False)
        mask = tf.io.decode_png(tf.io.read_file(mask), 1)
        both = tf.concat([image, mask], -1)
        both = tf.image.random_flip_left_right(tf.image.random_crop(both, (CROP, CROP, 4)))
        image = (tf.cast(both[..., :3], tf.float32) / 255 - MEAN) / STD
        return image, tf.cast(both[..., 3], tf.int32)

    images, masks = zip(*files(kind, count), strict=True)
    paths = (list(map(str, images)), list(map(str, masks)))
    loader = tf.data.Dataset.from_tensor_slices(paths).shuffle(count)
    loader = loader.map(load, len(os.sched_getaffinity(0))).batch(BATCH).prefetch(tf.data.AUTOTUNE)

    def call() -> None:
        for _ in loader:
            pass

    return Case(call)
