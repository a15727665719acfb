"""Pictures that are the same, or nearly: saved anew, made smaller, brighter or darker."""

from collections.abc import Sequence

import cv2
import numpy as np

# Of thumbnails. Frames of a drive 1/15 s apart have 0.991 in the median, 1 s apart 0.88; two
# pictures of one person up to 0.988, of two persons 0.85; neighbouring slices of a stack 0.64.
CORRELATION = 0.99
Mark = tuple[int, np.ndarray]  # A hash of all pixels, and a thumbnail, [1024] float32.


def mark(image: np.ndarray) -> Mark:
    """What is compared of a picture [h, w, c] uint8."""
    grey = image.mean(-1, dtype=np.float32)
    thumbnail = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).ravel()
    thumbnail -= thumbnail.mean()
    length = np.linalg.norm(thumbnail)
    # A deviation of less than one grey level may be noise: such a picture is near no other.
    return hash((image.shape, image.tobytes())), thumbnail / (length if length > 32 else np.inf)


def near_pairs(marks: Sequence[Mark]) -> list[tuple[int, int, bool]]:
    """The places i < j of pictures that are the same or nearly, and whether every pixel agrees.

    As many as join each group: of the same pixels each with their first, and these with one another
    where no other pair joins them.
    """
    exact, thumbnails = (np.array([m[k] for m in marks]) for k in (0, 1))
    _, first, kind = np.unique(exact, return_index=True, return_inverse=True)
    found = [(int(first[k]), j, True) for j, k in enumerate(kind) if first[k] != j]
    places, group = np.sort(first), np.arange(len(first))
    thumbnails = thumbnails[places]
    for i in range(len(places) - 1):
        alike = i + 1 + np.flatnonzero(thumbnails[i + 1 :] @ thumbnails[i] >= CORRELATION)
        groups, which = np.unique(group[alike], return_index=True)
        new = alike[which[groups != group[i]]]
        found += [(int(places[i]), int(places[j]), False) for j in new]
        group[np.isin(group, groups)] = group[i]
    return sorted(found)
