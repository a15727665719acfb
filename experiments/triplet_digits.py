"""Batch-hard triplets on 8x8 digits: trained on 0-6, tested on 7-9, never seen in training.

Seven classes tell little of others: halves of two digits, joined, are 84 more.

python -m experiments.launch triplet_digits
"""

from experiments.datasets import Digits8x8
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import AlignedEncoder
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    return Experiment(
        task=Embedding(loss="batch_hard_triplet", options={"margin": 0.2}, images_per_class=16),
        model=AlignedEncoder(features=48, widths=(32,), shifted=True),
        data=Data(
            name=Digits8x8.name,
            batch_size=112,
            options={"held_out": "7,8,9", "joined": 40},
            augment=Augment(
                rotate=25.0, scale=(0.7, 1.3), shift=0.15, shear=0.4, elastic_sigma=0.6
            ),
        ),
        optimizer=Optimizer(
            name="adamw", learning_rate=2e-3, weight_decay=1e-4, schedule="cosine", warmup_steps=20
        ),
        steps=300,
        split="test",
        log_every=20,
        eval_every=300,
        checkpoint_every=100,
    )
