"""A trained model in a file of its own: a program that needs no zoo, or tensors and a config.

```python
import jax.export, json, numpy as np               # and flatbuffers; nothing else
program = jax.export.deserialize(bytearray(open("FILE", "rb").read()))
ids = program.call(images)                         # [b, h, w, c] uint8 -> [b, h, w] int32
names = json.load(open("FILE.json"))["info"]["class_names"]
print(names[ids[0, 0, 0]])
```
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Literal

import jax
import jax.export
import jax.numpy as jnp
import safetensors.numpy
from flax.errors import FlaxError
from flax.traverse_util import flatten_dict

import zoo.train.config
from zoo.data.images import File, write_atomically
from zoo.infer.load import CONFIG, PARAMETERS, Trained
from zoo.infer.predict import geometry
from zoo.train.logs import plain

Format = Literal["stablehlo", "safetensors"]
PLATFORMS = ("cpu", "cuda", "tpu")


def export(run: Trained, out: File, *, format: Format = "stablehlo", logits: bool = False) -> str:
    """Writes a model, and a JSON of its architecture, classes, colours and preprocessing.

    "stablehlo" is a program for CPU, CUDA and TPU in `out`, explained by `out`.json: of pictures of
    one size, as they are read, it gives what `predict` does of each as a whole (or `logits`, at the
    picture's size), or `embed`. "safetensors" is the tensors, with config.json beside them, as
    `load` takes them. Returns what a program takes: "b, h, w, 3", all free, or less where only so
    its shapes are known: a least h and w, multiples ("32*h"), or the size it was trained at.

    Raises ValueError where none is possible, or a file is there that no export to `out` wrote.
    """
    out = pathlib.Path(out)
    tensors, takes = format == "safetensors", ""
    beside = out.with_name(CONFIG if tensors else f"{out.name}.json")
    if tensors != (out.suffix == ".safetensors"):
        raise ValueError(f"{out}: format={format}, but only safetensors are named .safetensors.")
    if not out.parent.is_dir():
        raise ValueError(f"The folder {out.parent} is missing; make it first.")
    for path in (out, beside):
        if path.exists() and not _is_ours(out, beside):
            problem = f"{path} is there, and no export to {out.name} wrote it"
            raise ValueError(f"{problem}; choose another file, in a folder of its own.")
    # Without the folders of the one who trained it.
    data = dataclasses.replace(run.experiment.data, path=None)
    experiment = dataclasses.replace(run.experiment, data=data, init_from=None)
    facts = {"zoo": zoo.__version__, "parameters": PARAMETERS, "step": run.step, "name": run.name}
    facts |= {**zoo.train.config.to_dict(experiment), "info": dataclasses.asdict(run.info)}
    facts["scores"] = {name: plain(score) for name, score in (run.validated() or {}).items()}
    if tensors:
        content = safetensors.numpy.save(flatten_dict(jax.device_get(run.variables), sep="/"))
    else:
        program, takes = _lowered(run, logits)
        content, (gives,) = bytes(program.serialize()), program.out_avals
        facts |= {"input": f"uint8[{takes}]", "output": gives.str_short(), "jax": jax.__version__}
    facts |= {"file": out.name, "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(facts, indent=2, allow_nan=False) + "\n"
    write_atomically(out, lambda file: file.write(content))
    write_atomically(beside, lambda file: file.write(text.encode()))
    return takes


def _is_ours(out: pathlib.Path, beside: pathlib.Path) -> bool:
    try:
        facts, found = json.loads(beside.read_bytes()), hashlib.sha256(out.read_bytes())
        return (facts["file"], facts["sha256"]) == (out.name, found.hexdigest())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _lowered(run: Trained, logits: bool) -> tuple[jax.export.Exported, str]:
    """The program of the freest input that the model's shapes can be told of, and that input."""
    smallest = getattr(run.model, "halo", 0) + 1  # From there on a mirrored border is inside.
    tries = [("h, w", ()), ("h, w", (f"h >= {smallest}", f"w >= {smallest}"))]
    tries += [(f"{n}*h, {n}*w", ()) for n in (2, 4, 8, 16, 32)]
    if (size := run.experiment.data.crop) is not None:
        tries.append(("{}, {}".format(*size), ()))
    call = jax.jit(functools.partial(_program, run, logits))
    for sides, where in tries:
        takes = f"b, {sides}, {run.info.channels}"
        image = jax.ShapeDtypeStruct(jax.export.symbolic_shape(takes, constraints=where), jnp.uint8)
        try:
            program = jax.export.export(call, platforms=PLATFORMS)(image)
            return program, ", ".join([takes, *where])
        except (ValueError, TypeError, FlaxError) as error:  # It says which shape is not known.
            refusal = str(error).partition("\n")[0]
    problem = f"{type(run.model).__name__} has no shape at a free size ({refusal})"
    raise ValueError(f"{problem}; train it with --set data.size=H,W.")


def _program(run: Trained, logits: bool, images: jax.Array) -> jax.Array:
    """[b, h, w, c] uint8 -> [b, h, w] int32, logits [b, h, w, k] or embeddings [b, d]."""
    model, known, x = run.model, run.preprocess, images.astype(jnp.float32)
    if known.size is not None:
        # As `zoo.data.images.resize_image`.
        rows, columns = map(_shares, x.shape[1:3], known.size)
        x = jnp.einsum("ph,bhwc,qw->bpqc", rows, x, columns, precision="highest")
    x = (x / 255 - jnp.array(known.mean)) / jnp.array(known.std)
    if not hasattr(model, "num_classes"):
        return model.apply(run.variables, x, method="embed" if hasattr(model, "embed") else None)
    (_, h, w, c), skipped = x.shape, 0
    stride, _, margin, legal = dataclasses.astuple(geometry(model, c))
    if margin:  # Mirrored up to a side that the model takes, as `logit_strips`.
        before = -(-margin // stride) * stride
        over = [legal - margin - before - side for side in (h, w)]
        more = [(before, margin + n - n // stride * stride) for n in over]
        # Picture by picture: jax 0.7 mirrors a free batch of pictures not even by 0.
        x = jax.vmap(lambda picture: jnp.pad(picture, (*more, (0, 0)), "reflect"))(x)
        skipped = before - margin
    x = model.apply(run.variables, x)[:, skipped : skipped + h, skipped : skipped + w]
    if known.size is not None:
        x = jax.image.resize(x, (*images.shape[:3], x.shape[-1]), "linear", antialias=False)
    return x if logits else jnp.argmax(x, -1).astype(jnp.int32)


def _shares(n: int, size: int) -> jax.Array:
    """[size, n], how much of n pixels goes into each of `size`: areas, or grown linearly."""
    side, i, j = jnp.asarray(n, jnp.int32), jnp.arange(size)[:, None], jnp.arange(n)
    # In parts of 1 / (n * size), integers: no rounding moves an edge.
    area = jnp.minimum((i + 1) * side, (j + 1) * size) - jnp.maximum(i * side, j * size)
    linear = jax.image.resize(jnp.eye(n), (size, n), "linear", antialias=False)
    return jnp.where(side > size, jnp.maximum(area, 0) / side, linear)
