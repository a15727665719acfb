"""Batch-hard triplets on your own folder: ROOT/class/picture; sizes and steps are planned.

python -m zoo check ROOT
python -m experiments.launch embed_folder --set data.path=ROOT

A class is what two pictures can share: a person, a sign, a product. Whole classes are held out
where there are enough of them, else pictures of each; near-duplicates, and what data.options.group,
a regular expression, finds in paths, stay together. `--set` wins over what is planned.
"""

from experiments.datasets import ImageFolderClasses
from experiments.plan import embedding as plan  # noqa: F401  The launcher asks for it.
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import ResidualEncoder
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    return Experiment(
        task=Embedding(loss="batch_hard_triplet", options={"margin": 0.2}, headline="roc_auc"),
        model=ResidualEncoder(features=64, width=16, normalize=True),
        data=Data(
            name=ImageFolderClasses.name,
            augment=Augment(scale=(0.9, 1.1), rotate=10.0, brightness=0.1, contrast=0.2),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=1e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup_steps=20,
            clip_norm=1.0,
        ),
        steps=400,
    )
