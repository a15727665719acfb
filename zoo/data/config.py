"""The data half of an experiment: which pictures, at which size, how many at a time."""

import dataclasses
import functools

from zoo.data.augment import Augment
from zoo.data.checks import require
from zoo.data.info import Info


@dataclasses.dataclass(frozen=True)
class Data:
    """Where examples come from and what is done to them before a model sees them.

    A picture is resized to `size`, then augmented, then cut to `crop`; evaluation only resizes.
    Pictures of one class each are augmented, cut and then resized (`zoo.data.tuples` says why).
    """

    name: str  # Of a TFDS data set, ours or anyone's.
    path: str | None = None  # Folder of the source files, for builders that read one.
    train_split: str = "train"  # A split's name, or TFDS's slice of one: "train[:85%]".
    validation_split: str = "validation"  # What the best checkpoint is chosen on.
    batch_size: int = 8  # Over all devices of all processes.
    size: tuple[int, int] | None = None  # (h, w) of the model's input; None keeps each picture's.
    mean: tuple[float, ...] | None = None  # Of each channel, in 0..1; None is the data set's own.
    std: tuple[float, ...] | None = None
    score_at: str = "source"  # Pixels that are scored: the "source" label's, or those at `size`.
    crop: tuple[int, int] | None = None  # (h, w) cut at random in training; None keeps the size.
    image: str = "image"  # Names of the features that hold picture and label.
    label: str = "label"
    label_offset: int = 0  # Added to every class id; -1 where the data set counts from 1.
    num_classes: int | None = None  # Needed where the data set does not tell.
    options: dict = dataclasses.field(default_factory=dict)  # Passed to the TFDS builder.
    augment: Augment = dataclasses.field(default_factory=Augment)
    border_weight: float = 0.0  # Added to pixels between cells, 10 in the U-Net paper; 0 is none.
    border_class: int = 0  # The one whose regions are cells.
    cache_mib: int = 1024  # Decoded examples kept in memory, a split.
    threads: int = 2  # That prepare batches ahead; 0 prepares each when it is asked for.

    def __post_init__(self):
        check = functools.partial(require, self, "data.")
        sides = "(height, width), each >= 1"
        check(("size", "crop"), sides, lambda v: v is None or (len(v) == 2 and min(v) >= 1))
        check(("batch_size",), "at least 1", lambda v: v >= 1)
        check(("border_weight", "cache_mib", "threads"), "at least 0", lambda v: v >= 0)
        check(("score_at",), "source or input", lambda v: v in ("source", "input"))

    def normalised(self, info: Info) -> Info:
        """With the `mean` and `std` that are given."""
        return dataclasses.replace(info, mean=self.mean or info.mean, std=self.std or info.std)

    def opening(self) -> dict:
        """The keyword arguments that `open_source` and `open_labelled` share."""
        names = ("path", "image", "label", "num_classes", "options", "cache_mib")
        return {name: getattr(self, name) for name in names}
