"""Vision models for metric learning and semantic segmentation, as pure functions in JAX and Flax.

`import zoo` is light: what needs JAX is imported when it is first asked for.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PACKAGES = ("data", "infer", "losses", "metrics", "models", "ops", "train")
_OF_INFER = ("embed", "embed_files", "export", "load", "load_run", "predict", "predict_files")
_OF_INFER += ("verify",)

__all__ = ["__version__", *_PACKAGES, *_OF_INFER]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"zoo.{name}")
    if name in _OF_INFER:
        return getattr(importlib.import_module("zoo.infer"), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
