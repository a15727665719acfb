"""Finds a data set's TFDS builder by name, prepares it, and reads what its ids mean.

Our own builders prepare without TensorFlow and without a network. Many of TFDS's need one of them:
what is missing is said before anything is downloaded, as far as it can be known.
"""

import colorsys
import difflib
import importlib.util
import inspect
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from zoo.data.info import Info
from zoo.data.prepare import SegmentationBuilder, quiet

# Keyword arguments that TFDS or `open_source` itself gives to a builder.
_NOT_OPTIONS = ("self", "path", "data_dir", "file_format", "version")


def open_builder(name: str, *, path: str | None, options: Mapping[str, Any]):
    """The builder of a data set, ours or any other that TFDS knows; prepares nothing.

    Raises:
        ValueError: an unknown name or option, or a source that is missing or does not fit together.
    """
    plain, _, config = name.partition("/")
    try:
        cls = tfds.builder_cls(plain)
    except ValueError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise ValueError(
            f"There is no data set {name!r}{nearest(plain, known)}; give digit_scenes, camvid, "
            f"isbi2012_em or any name that TFDS knows."
        ) from error
    configs = list(cls.builder_configs)
    if config and config.partition(":")[0] not in configs:
        raise ValueError(
            f"{plain} has no configuration {config!r}{nearest(config, configs)}; "
            f"it has {', '.join(configs) or 'none'}."
        )
    known = _options(cls)
    for option in options:
        if option not in known:
            raise ValueError(
                f"{name} has no option {option!r}{nearest(option, known)}; "
                f"it has {', '.join(known) or 'none'}."
            )
    if issubclass(cls, SegmentationBuilder):
        return cls(path=path, **options)
    try:
        return tfds.builder(name, data_dir=path, file_format="array_record", **options)
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be opened ({_one_line(error)}); another data.path prepares it anew."
        ) from error


def prepare(builder) -> None:
    """Downloads and writes the data set where that has not been done.

    Raises:
        ValueError: TensorFlow, the network or files that must be fetched by hand are missing, or
            our own source is faulty.
    """
    if builder.data_path.exists():
        return
    if isinstance(builder, SegmentationBuilder):
        try:
            builder.download_and_prepare()
        except OSError as error:
            raise ValueError(
                f"{builder.name} cannot be prepared ({error}); the environment variable ZOO_CACHE "
                f"names the folder of prepared data."
            ) from error
        return
    urls = builder.url_infos or {}
    mib = sum(info.size for info in urls.values()) / 2**20
    size = f" (its downloads are {mib:,.0f} MiB)" if mib else ""
    extra = 'it needs TensorFlow: pip install "vision-zoo[tensorflow]"'
    if _names_tensorflow(type(builder)) and importlib.util.find_spec("tensorflow") is None:
        raise ValueError(f"{builder.name} cannot be prepared here{size}; {extra}.")
    hosts = {urllib.parse.urlsplit(url).hostname for url in urls}
    if not urllib.request.getproxies():
        for host in hosts:
            _resolve(host, f"{builder.name} cannot be downloaded{size}")
    print(f"Preparing {builder.name} in {builder.data_dir}{size}.", file=sys.stderr)
    try:
        with quiet():
            builder.download_and_prepare()
    except ImportError as error:
        raise ValueError(f"{builder.name} cannot be prepared ({error}){size}; {extra}.") from error
    # A foreign builder may raise anything: no network, a wrong checksum, files to fetch by hand.
    except Exception as error:
        raise ValueError(
            f"{builder.name} cannot be prepared{size}: {type(error).__name__}: {_one_line(error)}"
        ) from error


def read_info(builder, *, image: str, label: str, num_classes: int | None) -> Info:
    """What the ids mean: told by our builders' metadata, generic for the others.

    Raises:
        ValueError: a feature that the data set lacks, or a number of classes that is missing or
            contradicts the data set.
    """
    features, metadata = builder.info.features, builder.info.metadata or {}
    for feature in (image, label):
        if feature not in features:
            raise ValueError(
                f"{builder.name} has no feature {feature!r}{nearest(feature, list(features))}; "
                f"it has {', '.join(features)}: give data.image and data.label."
            )
    told = getattr(features[label], "num_classes", None)
    if "class_names" in metadata:
        told = len(metadata["class_names"])
    if told is None and num_classes is None:
        raise ValueError(
            f"{builder.name} does not tell its number of classes: give data.num_classes."
        )
    if told is not None and num_classes not in (None, told):
        raise ValueError(f"{builder.name} has {told} classes, not num_classes={num_classes}.")
    if "class_names" in metadata:
        return Info.from_dict({"name": builder.name, "num_classes": told, **metadata})
    k = told or num_classes
    channels = 1 if features[image].shape[-1] == 1 else 3
    return Info(
        name=builder.name,
        num_classes=k,
        class_names=tuple(getattr(features[label], "names", None) or map(str, range(k))),
        colours=tuple(_hue(i, k) for i in range(k)),
        ignore_label=255,
        channels=channels,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


def nearest(word: str, words: Sequence[str]) -> str:
    """For a message about a misspelt word: " (nearest: a or b)", empty where none is near."""
    near = difflib.get_close_matches(word, words)
    return f" (nearest: {' or '.join(near)})" if near else ""


def _options(cls: type) -> list[str]:
    """The keyword arguments that a builder's classes take, without those of TFDS's own."""
    names = []
    for base in cls.__mro__:
        if base is SegmentationBuilder:
            break
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names += [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [name for name in names if name not in _NOT_OPTIONS]


def _names_tensorflow(cls: type) -> bool:
    """Whether a method of a foreign builder speaks of `tf`, as TFDS's own import TensorFlow."""
    methods = [method for method in vars(cls).values() if inspect.isfunction(method)]
    return any("tf" in method.__code__.co_names for method in methods)


def _resolve(host: str | None, problem: str) -> None:
    """Fails at once where TFDS would try for minutes: without a network no host has an address."""
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise ValueError(f"{problem}: {host} cannot be reached ({error}).") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _hue(index: int, count: int) -> tuple[int, int, int]:
    return tuple(round(255 * v) for v in colorsys.hsv_to_rgb(index / count, 0.8, 0.9))
