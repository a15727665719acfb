"""Pages that need nothing beside themselves: pictures as data, one style, no network."""

import base64
import dataclasses
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from zoo.data.images import File, write_atomically

PNG_SIDE = 256  # Up to this side pictures stay exact, above they are JPEG.

# Class names and paths are whatever a user wrote: every value is escaped.
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture of a page with its heading, and in words what it shows."""

    title: str
    alt: str  # Shown under the heading, too.
    src: str  # A data URI.
    wide: bool  # Too wide for half a page.


@dataclasses.dataclass(frozen=True)
class Table:
    """A heading for each column, rows of text and, of each, perhaps a colour (#rrggbb)."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    swatches: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Layers:
    """One picture thrice, as data URIs of one size, to be slid through."""

    caption: str
    image: str
    truth: str
    prediction: str
    small: bool  # Its pixels are shown as squares.


@dataclasses.dataclass(frozen=True)
class Part:
    """One task's results on a page."""

    sentence: str  # The result in plain words.
    figures: Sequence[Figure]
    tables: Sequence[Table] = ()
    matrix: Table | None = None  # Of confusion: large, so it is folded.
    layers: Mapping[str, Sequence[Layers]] = dataclasses.field(default_factory=dict)  # By heading.
    remark: str = ""  # Printed too.


def figure(path: pathlib.Path, title: str, alt: str) -> Figure:
    """A PNG file as a figure."""
    with Image.open(path) as image:
        wide = image.width > 1000  # Half a page has 500: letters of 17 pixels stay legible.
    return Figure(title, alt, _uri("png", path.read_bytes()), wide)


def picture(pixels: np.ndarray, *, exact: bool) -> str:
    """The data URI of a picture [h, w, 1 or 3] uint8: PNG if it is `exact` or small, else JPEG."""
    image = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
    kind = "png" if exact or max(image.size) <= PNG_SIDE else "jpeg"
    file = io.BytesIO()
    image.save(file, kind, **({"optimize": True} if kind == "png" else {"quality": 88}))
    return _uri(kind, file.getvalue())


def number(value: float, form: str = "{:.4f}") -> str:
    """A number as text; a dash for nan, which is 0 / 0 in a score."""
    return "–" if math.isnan(value) else form.format(value)


def write(template: str, path: File, **values: Any) -> None:
    """Fills a template of this folder and writes the page, whole or not at all."""
    html = TEMPLATES.get_template(template).render(values)
    # A name that is no Unicode (bytes of a file's name) shall not stop the page.
    text = html.encode("utf-8", errors="replace")
    write_atomically(path, lambda file: file.write(text))


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
