"""Pictures and masks: read from any common file, prepared for a model, coloured, written.

Training, evaluation and prediction all read through `read_image` and prepare through `Preprocess`,
so a picture means the same numbers everywhere. NumPy, Pillow and OpenCV only.
"""

import contextlib
import dataclasses
import io
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

File = str | os.PathLike
Colours = Sequence[Sequence[int]]
VOID_COLOUR = (224, 224, 192)  # Pascal VOC's, which no palette here uses for a class.
_WRITER = "vision-zoo"  # The text "Software" of PNG files written here.
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# Pillow scales 2- and 4-bit grey to 0..255 when it decodes; in a mask that would change the ids.
_GREY_SCALE = {"L;2": 85, "L;4": 17}


def read_image(path: File | io.BytesIO, channels: int) -> np.ndarray:
    """Reads a picture as a camera or a drawing program meant it: [h, w, 1 or 3] uint8.

    Turned as its EXIF tag says. Sixteen-bit grey is divided by 257, so that 65535 becomes 255,
    whatever the picture's own range. What is transparent is laid on black: the colour beneath a
    transparent pixel is arbitrary. Grey is repeated for three channels, colour becomes grey by the
    weights of ITU-R BT.601. Raises ValueError for a file that is missing, unreadable, truncated,
    too large to be meant, of several pages or frames, or of values without a scale to 8 bits.
    """
    if channels not in (1, 3):
        raise ValueError(f"read_image gives 1 or 3 channels, not {channels}.")
    image, _ = _decode(path)
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            span = f"{values.min()} to {values.max()}"
            raise ValueError(f"{path} holds values from {span}, outside 16 bits; save it with 16.")
        image = Image.fromarray(np.round(values / 257.0).astype(np.uint8))
    if image.mode == "F":
        raise ValueError(f"{path} holds floating-point values; save it with 8 or 16 bits.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode != "L":
        image = image.convert("RGB")  # Every mode converts to this one; not every one to grey.
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def read_mask(path: File) -> np.ndarray:
    """Reads a mask's class ids, [h, w] uint8: a palette's indices, or a grey picture's values.

    Raises ValueError for a file that is missing, unreadable, truncated, in colour, a JPEG (whose
    compression changes ids), or holds an id above 255.
    """
    image, rawmode = _decode(path)
    if image.format in ("JPEG", "MPO"):
        some = ", ".join(map(str, np.unique(np.asarray(image.convert("L")))[:8]))
        problem = f"The mask {path} is a JPEG, whose compression changes ids (it holds {some}, ...)"
        raise ValueError(f"{problem}; use PNG.")
    ids = np.asarray(image)
    if image.format == "PPM" and isinstance(rawmode, tuple):  # Scaled from a maximum of its own.
        ids = np.round(ids * (rawmode[1] / (255 if image.mode == "L" else 65535))).astype(int)
    if image.mode in ("L", "P", "1"):
        return ids.astype(np.uint8) // np.uint8(_GREY_SCALE.get(rawmode, 1))
    if image.mode in _SIXTEEN_BIT:
        if ids.min() < 0 or ids.max() > 255:
            span = f"{ids.min()} to {ids.max()}, outside 0..255"
            raise ValueError(f"{path} holds ids from {span}; number the classes anew.")
        return ids.astype(np.uint8)
    hint = "convert its colours to ids and save it as grey or palette PNG"
    raise ValueError(f"The mask {path} has the mode {image.mode}, not one id a pixel; {hint}.")


def _decode(path: File | io.BytesIO) -> tuple[Image.Image, object]:
    """The loaded, EXIF-turned picture and Pillow's name for how its pixels lay in the file."""
    if isinstance(path, File) and not (os.path.isfile(path) and os.path.getsize(path)):
        what = "an empty file" if os.path.isfile(path) else "not a file"
        raise ValueError(f"{path} is {what}; give the path of a picture.")
    try:
        with Image.open(path) as image:
            # Not MPO and PSD: behind their first picture lie previews or layers of it.
            several = image.format in ("AVIF", "GIF", "PNG", "TIFF", "WEBP") and image.is_animated
            rawmode = image.tile[0][3] if image.tile else None
            image.load()
            turned = ImageOps.exif_transpose(image)
            turned.format = image.format
    except Image.DecompressionBombError as error:
        limit = 2 * Image.MAX_IMAGE_PIXELS
        raise ValueError(f"{path} is larger than {limit} pixels; cut it into pieces.") from error
    except MemoryError:
        raise
    # Broken files make Pillow's many decoders raise nearly every kind of exception.
    except Exception as error:
        hint = "it may be damaged or cut short: copy or download it again"
        raise ValueError(f"{path} cannot be read as a picture ({error}); {hint}.") from error
    if several:
        raise ValueError(f"{path} holds several pages or frames; save each as a file of its own.")
    return turned, rawmode


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """(picture / 255 - mean) / std at `size`: sides shrink by averaging areas or grow linearly."""

    channels: int
    mean: tuple[float, ...]  # Of each channel, in 0..1.
    std: tuple[float, ...]  # Likewise, > 0.
    size: tuple[int, int] | None = None  # (h, w) of the model's input; None keeps the picture's.

    def __post_init__(self):
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            wanted = f"data.mean and data.std must be {self.channels} numbers each, std > 0"
            raise ValueError(f"{wanted}; got {self.mean} and {self.std}.")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"Preprocess needs a size (h, w) of at least 1x1; got {self.size}.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """[h, w, c] uint8, or float in the same units 0..255 -> [h', w', c] float32, normalised."""
        if image.ndim != 3 or image.shape[-1] != self.channels:
            wanted = f"a picture [h, w, {self.channels}], as of read_image"
            raise ValueError(f"Preprocess needs {wanted}; got {image.shape}.")
        image = resize_image(image.astype(np.float32), self.size or image.shape[:2])
        # By whole rows: several times as fast as by pixels of three numbers.
        rows, mean, std = image.reshape(len(image), -1), np.float32(self.mean), np.float32(self.std)
        rows /= np.float32(255)
        rows -= np.tile(mean, image.shape[1])
        rows /= np.tile(std, image.shape[1])
        return rows.reshape(image.shape)


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """[h, w, c] -> [*size, c] of the same dtype; see `Preprocess`."""
    shrunk = np.minimum(image.shape[:2], size)
    for (height, width), how in ((shrunk, cv2.INTER_AREA), (size, cv2.INTER_LINEAR)):
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (int(width), int(height)), interpolation=how)
            image = image.reshape(height, width, -1)  # OpenCV drops a single channel.
    return image


def colourize(ids: np.ndarray, colours: Colours, ignore_label: int) -> np.ndarray:
    """Paints class ids, [h, w] integers, in their colours and void in `VOID_COLOUR`: uint8 RGB."""
    known = (ids >= 0) & (ids < len(colours)) | (ids == ignore_label)
    if not known.all():
        what = f"neither one of the {len(colours)} classes nor void ({ignore_label})"
        bad = np.unique(ids[~known])[:8].tolist()
        raise ValueError(f"The ids {bad} are {what}; give a colour for each class.")
    return _palette(colours, ignore_label)[ids]


def overlay(image: np.ndarray, ids: np.ndarray, colours: Colours, ignore_label: int) -> np.ndarray:
    """Half under its ids' colours, bare where void or black: uint8 [h, w, 1 or 3] -> [h, w, 3]."""
    painted = colourize(ids, colours, ignore_label)
    mixed = np.round(0.5 * image.astype(np.float32) + 0.5 * painted)
    bare = (ids == ignore_label) | ~painted.any(axis=-1)
    return np.where(bare[..., None], image, mixed).astype(np.uint8)


def write_ids(path: File, ids: np.ndarray, colours: Colours, ignore_label: int) -> None:
    """Writes class ids [h, w] as a palette PNG: `read_mask` gives them back, a viewer colours."""
    _write_png(path, ids_image(ids, colours, ignore_label))


def ids_image(ids: np.ndarray, colours: Colours, ignore_label: int) -> Image.Image:
    """Class ids [h, w] as a picture with a palette."""
    colourize(ids, colours, ignore_label)  # Refuses what is neither a class nor void.
    image = Image.fromarray(np.asarray(ids).astype(np.uint8))
    image.putpalette(_palette(colours, ignore_label).tobytes())
    return image


def write_rgb(path: File, rgb: np.ndarray) -> None:
    """Writes a picture [h, w, 3] uint8 as PNG."""
    _write_png(path, Image.fromarray(np.ascontiguousarray(rgb)))


def _write_png(path: File, image: Image.Image) -> None:
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", _WRITER)
    write_atomically(path, lambda file: image.save(file, "PNG", pnginfo=mark))


def is_written(path: File) -> bool:
    """Whether a file is one that `write_ids` or `write_rgb` wrote."""
    with contextlib.suppress(OSError, ValueError, Image.DecompressionBombError):
        with Image.open(path) as image:
            return image.info.get("Software") == _WRITER
    return False


def files_below(root: Path) -> Iterator[Path]:
    """All files at any depth, none twice; links to folders are followed, hidden ones left out."""
    top, seen, tops = os.path.realpath(root), set(), [root]
    for start in tops:  # It grows: what only links reach comes after all that lies here itself.
        for folder, folders, names in os.walk(start):
            place = os.path.realpath(folder)
            folders[:] = [] if place in seen else sorted(n for n in folders if n[0] != ".")
            yield from () if place in seen else (Path(folder, n) for n in names if n[0] != ".")
            seen.add(place)
            links = [Path(folder, n) for n in folders if os.path.islink(os.path.join(folder, n))]
            tops += [link for link in links if not Path(top).is_relative_to(link.resolve())]


def write_atomically(path: File, write: Callable[[BinaryIO], Any]) -> None:
    """Calls `write` with a file so that a reader, or a kill half-way, never meets half of it."""
    path = Path(path)
    # Beside the target, since a rename is atomic within one file system only.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _palette(colours: Colours, ignore_label: int) -> np.ndarray:
    """[256, 3] uint8, the colour of every id."""
    if len(colours) > 255 or not 0 <= ignore_label <= 255:
        got = f"{len(colours)} classes and void {ignore_label}"
        raise ValueError(f"A palette holds 255 classes and a void up to 255; got {got}.")
    palette = np.zeros((256, 3), np.uint8)
    palette[ignore_label] = VOID_COLOUR
    palette[: len(colours)] = colours
    return palette
