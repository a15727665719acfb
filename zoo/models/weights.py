"""Tensors out of a file that never runs: PyTorch's `.pth`, and `.safetensors`.

A pickle is a program; the loader of Python's library does whatever it says. This one lets it build
dicts and tensors and refuses all else. It reads both forms of `torch.save`, the zip archive and the
older stream, that of torchvision's first weights, VGG16 too (pytorch/vision #2068).
"""

import collections
import os
import pickle
import zipfile
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

_MAGIC = 0x1950A86A20F9469CFC6C  # What the stream begins with.
_STORAGES = {
    "FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "LongStorage": "<i8",
    "IntStorage": "<i4", "ByteStorage": "u1", "BoolStorage": "?", "BFloat16Storage": jnp.bfloat16,
}  # fmt: skip


def load_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, in its shapes and dtypes.

    Raises ValueError for a file that is missing, damaged, or holds or asks for anything else.
    """
    try:
        if str(path).endswith(".safetensors"):
            return safetensors.numpy.load_file(path)
        with open(path, "rb") as file:
            read = _archive if zipfile.is_zipfile(file) else _stream
            file.seek(0)
            found, storages = read(file)
        if odd := [name for name, x in found.items() if not isinstance(x, tuple)]:
            raise ValueError(f"its entry {odd[0]!r} is no tensor")
        # NumPy refuses what does not lie within the storage; but of 0 bytes it believes anything.
        if lost := [name for name, x in found.items() if 0 not in x[0] and not storages[x[2]]]:
            raise ValueError(f"the bytes of {lost[0]} are missing")
        return {k: np.ndarray(x[0], x[1], storages[x[2]], *x[3:]) for k, x in found.items()}
    except Exception as error:
        problem = f"{path} cannot be read as weights ({type(error).__name__}: {error})"
        hint = "fetch it again, or write tensors alone: torch.save(model.state_dict(), FILE)"
        raise ValueError(f"{problem}; nothing in it was run; {hint}.") from error


class _Unpickler(pickle.Unpickler):
    """Gives a tensor as shape, dtype, key of its storage, first byte and strides in bytes."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="utf-8")  # Of strings that Python 2 wrote.
        self.kinds: dict[str, np.dtype] = {}  # Of each storage.

    def find_class(self, module: str, name: str) -> Any:
        """What the file may call. None has attributes to set, as a pickle can do that as well."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _STORAGES:
            return name
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not read here")

    def persistent_load(self, pid: tuple) -> str:
        kind, storage, key, _, _, *view = pid
        if kind != "storage" or any(view):
            raise pickle.UnpicklingError(f"it holds {pid!r} in place of a storage")
        self.kinds[key] = np.dtype(_STORAGES[storage])
        return key

    def _tensor(self, key: str, offset: int, shape: tuple, strides: tuple, *_: Any) -> tuple:
        size = self.kinds[key].itemsize
        return shape, self.kinds[key], key, offset * size, [n * size for n in strides]


def _archive(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        unpickler = _Unpickler(archive.open(index))
        found, root = unpickler.load(), index.removesuffix(".pkl")
        return found, {key: archive.read(f"{root}/{key}") for key in unpickler.kinds}


def _stream(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """Pickles of a magic number, a version, the machine, the dict and a list of its storages."""
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("it is no file of torch.save")
    _Unpickler(file).load(), _Unpickler(file).load()
    unpickler, storages = _Unpickler(file), {}
    found = unpickler.load()
    for key in _Unpickler(file).load():
        length = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(length * unpickler.kinds[key].itemsize)
    return found, storages
