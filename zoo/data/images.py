"""Pictures and masks: read from any common file, prepared for a model, coloured, written.

Training, evaluation and prediction all read through `read_image` and prepare through `Preprocess`,
so a picture means the same numbers everywhere. NumPy, Pillow and OpenCV only.
"""

import dataclasses
import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

Colours = Sequence[Sequence[int]]
VOID_COLOUR = (224, 224, 192)  # Pascal VOC's, which no palette here uses for a class.
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# Pillow scales 2- and 4-bit grey to 0..255 when it decodes; in a mask that would change the ids.
_GREY_SCALE = {"L;2": 85, "L;4": 17}


def read_image(path: str | os.PathLike, channels: int) -> np.ndarray:
    """Reads a picture as a camera or a drawing program meant it.

    Turned as its EXIF tag says. Sixteen-bit grey is divided by 257, so that 65535 becomes 255,
    whatever the picture's own range. What is transparent is laid on black: the colour beneath a
    transparent pixel is arbitrary. Grey is repeated for three channels, colour becomes grey by the
    weights of ITU-R BT.601.

    Args:
        path: a file that Pillow reads, with one page.
        channels: 1 or 3.

    Returns:
        [h, w, channels] uint8.

    Raises:
        ValueError: the file is missing, unreadable, truncated or too large to be meant, has several
            pages, or holds values that have no agreed scale to 8 bits.
    """
    if channels not in (1, 3):
        raise ValueError(f"read_image gives 1 or 3 channels, not {channels}.")
    image, _ = _decode(path)
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"{path} holds values from {values.min()} to {values.max()}, outside 16 bits; "
                f"save it with 8 or 16 bits a channel."
            )
        image = Image.fromarray(np.round(values / 257.0).astype(np.uint8))
    if image.mode == "F":
        raise ValueError(
            f"{path} holds floating-point values, which have no agreed range; "
            f"save it with 8 or 16 bits a channel."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode != "L":
        image = image.convert("RGB")  # Every mode converts to this one; not every one to grey.
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Reads a mask's class ids, [h, w] uint8: a palette's indices, or a grey picture's values.

    Raises:
        ValueError: the file is missing, unreadable or truncated, in colour, a JPEG (whose
            compression changes ids), or holds an id above 255.
    """
    image, rawmode = _decode(path)
    if image.format in ("JPEG", "MPO"):
        raise ValueError(f"The mask {path} is a JPEG, whose compression changes ids; use PNG.")
    if image.mode in ("L", "P", "1"):
        return np.asarray(image).astype(np.uint8) // np.uint8(_GREY_SCALE.get(rawmode, 1))
    if image.mode in _SIXTEEN_BIT:
        ids = np.asarray(image)
        if ids.min() < 0 or ids.max() > 255:
            raise ValueError(
                f"The mask {path} holds ids from {ids.min()} to {ids.max()}; "
                f"class ids go from 0 to 254 and void is at most 255."
            )
        return ids.astype(np.uint8)
    raise ValueError(
        f"The mask {path} has the mode {image.mode}, but a mask holds one class id a pixel; "
        f"convert its colours to ids and save it as grey or palette PNG."
    )


def _decode(path: str | os.PathLike) -> tuple[Image.Image, object]:
    """The loaded, EXIF-turned picture and Pillow's name for how its pixels lay in the file."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        what = "an empty file" if os.path.isfile(path) else "not a file"
        raise ValueError(f"{path} is {what}; give the path of a picture.")
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            rawmode = image.tile[0][3] if image.tile else None
            image.load()
            turned = ImageOps.exif_transpose(image)
            turned.format = image.format
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is larger than {2 * Image.MAX_IMAGE_PIXELS} pixels; cut it into pieces."
        ) from error
    except MemoryError:
        raise
    # Broken files make Pillow's many decoders raise nearly every kind of exception.
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a picture ({error}); it may be damaged or cut short: "
            f"copy or download it again."
        ) from error
    if pages > 1:
        raise ValueError(f"{path} holds {pages} pages; save each as a file of its own.")
    return turned, rawmode


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What stands between a picture in memory and a model's input.

    A picture is brought to `size` first: sides that shrink by averaging over areas, sides that grow
    linearly. Then (picture / 255 - mean) / std.
    """

    channels: int
    mean: tuple[float, ...]  # Of each channel, in 0..1.
    std: tuple[float, ...]  # Likewise, > 0.
    size: tuple[int, int] | None = None  # (h, w) of the model's input; None keeps the picture's.

    def __post_init__(self):
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"Preprocess for {self.channels} channels needs a mean and a std for each; "
                f"got {self.mean} and {self.std}."
            )
        if min(self.std) <= 0:
            raise ValueError(f"Preprocess divides by std, which must be above 0; got {self.std}.")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"Preprocess needs a size (h, w) of at least 1x1; got {self.size}.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """[h, w, c] uint8, or float in the same units 0..255 -> [h', w', c] float32, normalised."""
        if image.ndim != 3 or image.shape[-1] != self.channels:
            raise ValueError(
                f"Preprocess needs a picture [h, w, {self.channels}]; got {image.shape}. "
                f"read_image(path, channels={self.channels}) reads any file so."
            )
        image = image.astype(np.float32)
        if self.size is not None:
            image = resize_image(image, self.size)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (image / np.float32(255) - mean) / std


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """[h, w, c] -> [*size, c] of the same dtype; see `Preprocess`."""
    image = _resize(image, np.minimum(image.shape[:2], size), cv2.INTER_AREA)
    return _resize(image, size, cv2.INTER_LINEAR)


def _resize(image: np.ndarray, size: Sequence[int], how: int) -> np.ndarray:
    height, width = (int(side) for side in size)
    if image.shape[:2] == (height, width):
        return image
    # OpenCV drops a single channel.
    return cv2.resize(image, (width, height), interpolation=how).reshape(height, width, -1)


def colourize(ids: np.ndarray, colours: Colours, ignore_label: int) -> np.ndarray:
    """Paints class ids, [h, w] integers, in their colours and void in `VOID_COLOUR`: uint8 RGB."""
    known = (ids >= 0) & (ids < len(colours)) | (ids == ignore_label)
    if not known.all():
        raise ValueError(
            f"The ids {np.unique(ids[~known])[:8].tolist()} are neither one of the "
            f"{len(colours)} classes nor void ({ignore_label}); give a colour for each class."
        )
    return _palette(colours, ignore_label)[ids]


def overlay(
    image: np.ndarray, ids: np.ndarray, colours: Colours, ignore_label: int, *, alpha: float = 0.5
) -> np.ndarray:
    """Lays the classes' colours over a picture; void stays as the picture is.

    Args:
        image: [h, w, 1 or 3] uint8.
        ids: [h, w] integers.
        alpha: 0..1, the colours' share.

    Returns:
        [h, w, 3] uint8.
    """
    image = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)
    mixed = (1 - alpha) * image + alpha * colourize(ids, colours, ignore_label)
    mixed = np.where((ids == ignore_label)[..., None], image, mixed)
    return np.round(mixed).astype(np.uint8)


def write_ids(
    path: str | os.PathLike, ids: np.ndarray, colours: Colours, ignore_label: int
) -> None:
    """Writes class ids [h, w] as a palette PNG: `read_mask` gives them back, a viewer colours."""
    colourize(ids, colours, ignore_label)  # Refuses what is neither a class nor void.
    image = Image.fromarray(np.asarray(ids).astype(np.uint8))
    image.putpalette(_palette(colours, ignore_label).tobytes())
    _write_png(path, image)


def write_rgb(path: str | os.PathLike, rgb: np.ndarray) -> None:
    """Writes a picture [h, w, 3] uint8 as PNG."""
    _write_png(path, Image.fromarray(np.ascontiguousarray(rgb)))


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file so that a reader, or a kill half-way, never meets half of it."""
    path = Path(path)
    # Beside the target, since a rename is atomic within one file system only.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_png(path: str | os.PathLike, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def _palette(colours: Colours, ignore_label: int) -> np.ndarray:
    """[256, 3] uint8, the colour of every id."""
    if len(colours) > 255 or not 0 <= ignore_label <= 255:
        raise ValueError(
            f"A palette holds at most 255 classes and a void of at most 255; "
            f"got {len(colours)} classes and void {ignore_label}."
        )
    palette = np.zeros((256, 3), np.uint8)
    palette[ignore_label] = VOID_COLOUR
    palette[: len(colours)] = colours
    return palette
