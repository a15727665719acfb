"""Batch-hard triplets on faces: do two pictures show the same person, never seen in training?

It sees histograms of gradient orientations in place of pixels: of 16 persons, convolutions learn
what does not hold for others.
Trained on the persons 3-18, chosen and given its threshold on 19-22, tested on 23-30.
python -m experiments.launch triplet_faces --set data.path=DIR (with the folders s3, s4 ...)
"""

from experiments.datasets import OrlFaces
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import AlignedEncoder
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    return Experiment(
        task=Embedding(
            loss="batch_hard_triplet",
            options={"margin": 0.2},
            images_per_class=4,
            headline="roc_auc",
        ),
        model=AlignedEncoder(
            features=512,
            widths=(),
            orientations=8,
            cell=8,
            shrunk=(1, 2),
            dropout_rate=0.0,
            symmetric=True,
        ),
        data=Data(
            name=OrlFaces.name,
            batch_size=64,
            size=(56, 46),
            augment=Augment(
                flip=True,
                scale=(0.8, 1.25),
                rotate=15.0,
                shear=0.15,
                shift=0.1,
                brightness=0.15,
                contrast=0.4,
            ),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=3e-4,
            weight_decay=1e-3,
            schedule="cosine",
            warmup_steps=20,
            clip_norm=1.0,
        ),
        steps=200,
        split="test",
        eval_every=50,
        checkpoint_every=50,
    )
