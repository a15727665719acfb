"""Batch-all triplets on MNIST: 2,000 test digits are searched for among 8,000 others.

Of the first 8,000, 7,000 train and 1,000 choose the best step; all 8,000 are the gallery.
python -m experiments.launch triplet_mnist --set data.path=DIR (with the t10k files)
"""

from experiments.datasets import MnistIdx
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import ResidualEncoder
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    return Experiment(
        task=Embedding(
            loss="batch_all_triplet",
            options={"margin": 0.5},
            images_per_class=6,
            gallery="test[:8000]",
        ),
        model=ResidualEncoder(features=64, width=16, normalize=True),
        data=Data(
            name=MnistIdx.name,
            batch_size=60,
            train_split="test[:7000]",
            validation_split="test[7000:8000]",
            augment=Augment(rotate=12.0, scale=(0.88, 1.12), shift=0.07, shear=0.15),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=2e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup_steps=50,
            ema=0.99,
        ),
        steps=1500,
        split="test[8000:]",
        eval_every=250,
        checkpoint_every=250,
    )
