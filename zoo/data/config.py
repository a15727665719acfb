"""The data half of an experiment: which pictures, at which size, how many at a time."""

import dataclasses

from zoo.data.augment import Augment


@dataclasses.dataclass(frozen=True)
class Data:
    """Where examples come from and what is done to them before a model sees them.

    A picture is resized to `size`, then augmented, then cut to `crop`; evaluation only resizes.
    """

    name: str  # Of a TFDS data set, ours or anyone's.
    path: str | None = None  # Folder of the source files, for builders that read one.
    train_split: str = "train"  # A split's name, or TFDS's slice of one: "train[:85%]".
    validation_split: str = "validation"  # What the best checkpoint is chosen on.
    batch_size: int = 8  # Over all devices of all processes.
    size: tuple[int, int] | None = None  # (h, w) of the model's input; None keeps each picture's.
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
        for name in ("size", "crop"):
            sides = getattr(self, name)
            if sides is not None and (len(sides) != 2 or min(sides) < 1):
                raise ValueError(f"data.{name} must be (height, width), each >= 1; got {sides}.")
        for name in ("batch_size", "border_weight", "cache_mib", "threads"):
            if (got := getattr(self, name)) < (least := int(name == "batch_size")):
                raise ValueError(f"data.{name} must be at least {least}; got {got}.")
        if self.score_at not in ("source", "input"):
            raise ValueError(f"data.score_at must be source or input; got {self.score_at!r}.")

    def opening(self) -> dict:
        """The keyword arguments that `open_source` and `open_labelled` share."""
        names = ("path", "image", "label", "num_classes", "options", "cache_mib")
        return {name: getattr(self, name) for name in names}
