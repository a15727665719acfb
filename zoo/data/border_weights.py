"""Weights that make a network learn the thin borders between cells."""

import numpy as np
from scipy import ndimage


def border_weights(
    label: np.ndarray, ignore_label: int, *, cell: int = 0, weight: float = 10.0, sigma: float = 5.0
) -> np.ndarray:
    """weight * exp(-(d1 + d2)^2 / (2 sigma^2)): [h, w] integer -> [h, w] float32, 0 at void.

    What Ronneberger, Fischer & Brox, "U-Net", MICCAI 2015, Sec. 3, add to the class's weight: w0 =
    10, sigma = 5. d1 and d2 are the distances in pixels to the borders of the nearest two cells,
    4-connected regions of class `cell`. Borders are pixels of a cell beside another class; void and
    the picture's edge make none. Beyond 6 sigma what is left, < 2e-8 weight, becomes 0.
    """
    if not sigma > 0:
        raise ValueError(f"border_weights needs sigma > 0, in pixels; got {sigma}.")
    cells, void, reach = ndimage.label(label == cell)[0], label == ignore_label, int(6 * sigma) + 1
    first, second = np.full((2, *label.shape), np.inf)
    # Box by box: hundreds of cells would take hundreds of whole pictures.
    for index, box in enumerate(ndimage.find_objects(cells), start=1):
        box = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        own = cells[box] == index
        border = own & ~ndimage.binary_erosion(own | void[box], border_value=1)
        if border.any():
            distance = ndimage.distance_transform_edt(~border)
            second[box] = np.minimum(second[box], np.maximum(first[box], distance))
            first[box] = np.minimum(first[box], distance)
    weights = weight * np.exp(-np.square(first + second) / (2 * sigma**2))
    return np.where(void, 0, weights).astype(np.float32)
