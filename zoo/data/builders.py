"""Finds a data set's TFDS builder by name, prepares it, and reads what its ids mean.

Our own, those with OPTIONS (`experiments.datasets`), prepare without TensorFlow and without a
network. Many of TFDS's need one: what is missing is said before a download, where it can be known.
"""

import colorsys
import contextlib
import importlib.util
import inspect
import io
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from zoo.data.checks import explained, nearest
from zoo.data.info import Info


def open_builder(name: str, *, path: str | None = None, options: Mapping[str, Any] | None = None):
    """A data set's builder, unprepared; ValueError for an unknown name or option, a bad source."""
    options = options or {}
    plain, _, config = name.partition("/")
    try:
        cls = tfds.builder_cls(plain)
    except ValueError as error:
        near = nearest(plain, tfds.list_builders(with_community_datasets=False))
        hint = "for a builder of yours import its module first (ours: import experiments.datasets)"
        problem = f"There is no data set {name!r}{near}"
        raise ValueError(f"{problem}; give any name that TFDS knows; {hint}.") from error
    configs = list(cls.builder_configs)
    if config:
        check_known(f"{plain} has no configuration", config.partition(":")[0], configs)
    if hasattr(cls, "OPTIONS"):
        for option in options:
            check_known(f"{name} has no option", option, list(cls.OPTIONS))
        return cls(path=path, **options)
    hint = "see data.options; another data.path prepares it anew"
    with explained(f"{name} cannot be opened", hint, (ValueError, TypeError)):
        return tfds.builder(name, data_dir=path, file_format="array_record", **options)


def prepare(builder) -> None:
    """Downloads and writes the data set where that has not been done.

    Raises ValueError where TensorFlow, the network or files are missing, or our source is faulty.
    """
    if builder.data_path.exists():
        return
    if hasattr(builder, "OPTIONS"):
        hint = "the environment variable ZOO_CACHE names the folder of prepared data"
        with explained(f"{builder.name} cannot be prepared", hint, OSError):
            builder.download_and_prepare()
        return
    urls = builder.url_infos or {}
    mib = sum(info.size for info in urls.values()) / 2**20
    size = f" (its downloads are {mib:,.0f} MiB)" if mib else ""
    extra = 'it needs TensorFlow: pip install "vision-zoo[tensorflow]"'
    # TFDS's own builders import TensorFlow lazily: a method that needs it speaks of `tf`.
    methods = filter(inspect.isfunction, vars(type(builder)).values())
    needs = any("tf" in method.__code__.co_names for method in methods)
    if needs and importlib.util.find_spec("tensorflow") is None:
        raise ValueError(f"{builder.name} cannot be prepared here{size}; {extra}.")
    # TFDS would try for minutes: without a network no host has an address.
    direct = not urllib.request.getproxies()
    for host in {urllib.parse.urlsplit(url).hostname for url in urls if direct}:
        problem = f"{builder.name} cannot be downloaded{size}: {host} cannot be reached"
        with explained(problem, "go online to prepare it", OSError):
            socket.getaddrinfo(host, None)
    print(f"Preparing {builder.name} in {builder.data_dir}{size}.", file=sys.stderr)
    try:
        with quiet():
            builder.download_and_prepare()
    # A foreign builder may raise anything: no network, a wrong checksum, files to fetch by hand.
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = f"; {extra}" if isinstance(error, ImportError) else ""
        raise ValueError(f"{builder.name} cannot be prepared{size}: {what}{hint}") from error


def read_info(builder, *, image: str, label: str, num_classes: int | None) -> Info:
    """What the ids mean: told by our builders' metadata, generic for the others.

    Raises ValueError for a feature that is not there, and `num_classes` missing or contradictory.
    """
    name, features, metadata = builder.name, builder.info.features, builder.info.metadata or {}
    for field, feature in (("image", image), ("label", label)):
        check_known(f"data.{field}: {name} has no feature", feature, list(features))
    told = getattr(features[label], "num_classes", None)
    if "class_names" in metadata:
        told = len(metadata["class_names"])
    k = num_classes if told is None else told
    if k is None:
        raise ValueError(f"{name} does not tell its number of classes: give data.num_classes.")
    if num_classes not in (None, k):
        raise ValueError(f"{name} has {k} classes, not num_classes={num_classes}.")
    if "class_names" in metadata:
        return Info.from_dict({"name": name, "num_classes": k, **metadata})
    names = tuple(getattr(features[label], "names", None) or map(str, range(k)))
    coloured = range(k) if features[label].shape else ()  # A class of each picture needs none.
    hues = (colorsys.hsv_to_rgb(i / k, 0.8, 0.9) for i in coloured)
    colours = tuple(tuple(round(255 * v) for v in hue) for hue in hues)
    c = 1 if features[image].shape[-1] == 1 else 3
    return Info(name, k, names, colours, channels=c, mean=(0.5,) * c, std=(0.25,) * c)


def check_known(problem: str, word: str, words: Sequence[str]) -> None:
    """Raises ValueError, naming the nearest, where a word is none of `words`."""
    if word not in words:
        known = ", ".join(words) or "none"
        raise ValueError(f"{problem} {word!r}{nearest(word, words)}; it has {known}.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TFDS prints to stdout, where `--json` writes, and draws bars into files: neither here."""
    tfds.display_progress_bar(sys.stderr.isatty())
    with contextlib.redirect_stdout(io.StringIO()):
        yield
