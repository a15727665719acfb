"""A source of pictures in memory, for tests of what makes batches of one."""

import types

import numpy as np

from zoo.data.images import Preprocess

VOID = 11


class Pictures(list):
    """A source in memory; its arrays are read-only, as those of a real one are."""

    info = types.SimpleNamespace(name="pictures", num_classes=11, ignore_label=VOID)


def pictures(*sizes):
    """Noise in which picture i can be told: it has the label i % 11 in one corner."""
    rng = np.random.default_rng(0)
    source = Pictures()
    for i, size in enumerate(sizes):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        label = rng.integers(0, 12, size, np.uint8)
        label[0, 0] = i % 11
        image.flags.writeable = label.flags.writeable = False
        source.append({"image": image, "label": label, "name": f"picture {i}"})
    return source


def preprocess(size=None):
    return Preprocess(channels=3, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.25), size=size)
