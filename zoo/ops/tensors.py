"""Arrays by name as the bytes of a .safetensors file, and back; no such file can run anything.

https://github.com/huggingface/safetensors, "Format": the length of a JSON header in 8 bytes, the
header, and the bytes of all tensors.
"""

import json
from collections.abc import Mapping

import numpy as np

_DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}


def to_safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The file's bytes, in the order of names; KeyError for a dtype that it cannot hold."""
    names, parts, header, end = {d: name for name, d in _DTYPES.items()}, [], {}, 0
    for name, x in sorted(tensors.items()):
        parts.append(np.ascontiguousarray(x).tobytes())
        start, end = end, end + len(parts[-1])
        dtype = names[x.dtype.newbyteorder("<").str]
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # The tensors begin at a multiple of 8, as the format asks.
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def from_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The tensors, read-only, in the file's order; damage raises ValueError, KeyError and such."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        first, end = (start + offset for offset in tensor["data_offsets"])
        flat = np.frombuffer(memoryview(data)[first:end], _DTYPES[tensor["dtype"]])
        header[name] = flat.reshape(tensor["shape"])
    return header
