"""Embeddings of pictures, in memory or in files."""

import functools
import pathlib
import zipfile
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError

from zoo.data.batches import runs
from zoo.data.checks import explained
from zoo.data.images import File, Preprocess, read_image, write_atomically
from zoo.infer.files import pictures
from zoo.infer.load import Trained, fingerprint
from zoo.infer.predict import Variables
from zoo.train.embedding import Embedding

BATCH, PIXELS = 64, 2**22  # At most, in one call.


def embed(
    model: nn.Module, variables: Variables, images: Iterable[np.ndarray], *, preprocess: Preprocess
) -> np.ndarray:
    """Embeds pictures of any sizes, each [h, w, c] uint8: [n, d] float32, in order.

    Raises ValueError for no picture, and for one of other channels than `preprocess` has, or of a
    size that the model does not take.
    """
    program, found = _program(model), []
    for alike in runs(map(preprocess, images), BATCH, key=np.shape):
        # Always as many rows, fewer of large pictures: one compilation for each size.
        most = int(np.clip(PIXELS // alike[0][..., 0].size, 1, BATCH))
        for some in runs(alike, most, key=np.shape):
            rows = np.zeros((most, *some[0].shape), np.float32)
            rows[: len(some)] = some
            problem = f"{type(model).__name__} cannot embed pictures of {rows.shape[1:3]}"
            with explained(problem, "give the size that it was trained at", FlaxError):
                found.append(np.asarray(program(variables, rows))[: len(some)])
    if not found:
        raise ValueError("No picture was given to embed; give one at least.")
    return np.concatenate(found)


@functools.lru_cache(maxsize=8)
def _program(model: nn.Module):
    method = "embed" if hasattr(model, "embed") else None
    return jax.jit(functools.partial(model.apply, method=method))


def embed_files(run: Trained, paths: Sequence[File], out: File) -> tuple[list, np.ndarray]:
    """Writes the embeddings of picture files to an .npz file: `paths` [n] and `embeddings` [n, d].

    There the paths are absolute, and `model` [2], workdir and fingerprint, tells a search what they
    are comparable with. A folder among `paths` stands for all the pictures below it. Returns the
    paths as given and the embeddings, float32. An `out` of an earlier call is replaced. Raises
    ValueError, and writes nothing, for an unreadable picture or an `out` that would lose data.
    """
    run.check(Embedding)
    out = pathlib.Path(out)
    if out.suffix != ".npz":
        raise ValueError(f"{out} must end in .npz, as numpy.load reads it.")
    if not out.parent.is_dir():
        raise ValueError(f"The folder {out.parent} is missing; make it first.")
    if out.exists() and not _is_ours(out):
        raise ValueError(f"{out} is there and holds no embeddings; choose another file.")
    files = pictures(paths, deep=True)
    images = (read_image(path, run.info.channels) for path in files)
    embeddings = embed(run.model, run.variables, images, preprocess=run.preprocess)
    model = [str(run.workdir.absolute()), fingerprint(run)]
    arrays = {"paths": [str(f.absolute()) for f in files], "embeddings": embeddings, "model": model}
    write_atomically(out, lambda file: np.savez(file, **arrays))
    return files, embeddings


def _is_ours(path: pathlib.Path) -> bool:
    """Whether a file is one that `embed_files` wrote."""
    try:
        with zipfile.ZipFile(path) as file:
            found = set(file.namelist()) - {"model.npy"}  # Which older ones lack.
            return found == {"paths.npy", "embeddings.npy"}
    except (OSError, zipfile.BadZipFile):
        return False
