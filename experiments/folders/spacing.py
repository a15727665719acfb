"""How large the objects of a mask are, and how far apart: what decides what a model must see."""

import numpy as np
from scipy import ndimage

WINDOW = 512  # Pixels of a side, from the middle, that are looked at: no crop is larger.


def spacing(ids: np.ndarray) -> tuple[list[float], list[float]]:
    """The longer side of each object, and the pixels between it and its nearest neighbour.

    ids: [h, w] int, -1 where there is no object. An object is a connected area of one id, of 4
    pixels at least; those that touch have no pixels between them, and are no neighbours.
    """
    ids = ids[tuple(slice(max(0, (n - WINDOW) // 2), (n + WINDOW) // 2) for n in ids.shape)]
    objects, sides = np.zeros(ids.shape, int), []
    for i in np.unique(ids[ids >= 0]):
        labels, _ = ndimage.label(ids == i, np.ones((3, 3)))
        counts = np.bincount(labels.ravel())
        for k, where in enumerate(ndimage.find_objects(labels), 1):
            if counts[k] > 3:
                sides.append(float(max(s.stop - s.start for s in where)))
                objects[where][labels[where] == k] = len(sides)
    return sides, _gaps(objects, len(sides))


def _gaps(objects: np.ndarray, count: int) -> list[float]:
    """Where the places nearest to two objects meet, the way from one to the other is shortest."""
    if count < 2:
        return []
    distance, (y, x) = ndimage.distance_transform_edt(objects == 0, return_indices=True)
    nearest, meet = objects[y, x], []
    for axis in (0, 1):
        a, b = (np.delete(nearest, end, axis).ravel() for end in (-1, 0))
        way = sum(np.delete(distance, end, axis).ravel() for end in (-1, 0))
        meet.append(np.stack([np.minimum(a, b), np.maximum(a, b), way])[:, a != b])
    low, high, way = np.concatenate(meet, 1)
    order = np.argsort(way)
    pairs, first = np.unique(np.stack([low, high])[:, order], axis=1, return_index=True)
    ways, gaps = way[order][first], np.full(count + 1, np.inf)
    for objects_of_pair in pairs.astype(int):
        # None between: they touch.
        np.minimum.at(gaps, objects_of_pair[ways > 0], ways[ways > 0])
    return gaps[np.isfinite(gaps)].tolist()
