"""One-shot: which of 20 characters of an alphabet never seen in training?

A supervised contrastive loss, the triplet loss with all negatives at once (Khosla et al., 2020).
Trained on five alphabets, chosen on Early_Aramaic, tested on Balinese and Latin.
python -m experiments.launch triplet_omniglot --set data.path=DIR (with the two zips)
"""

from experiments.datasets import OmniglotMinimal
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import ResidualEncoder
from zoo.train.config import Experiment, Optimizer
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    return Experiment(
        task=Embedding(
            loss="supervised_contrastive",
            options={"temperature": 0.1},
            images_per_class=2,
            turn_classes=True,
            headline="one_shot_accuracy",
        ),
        model=ResidualEncoder(features=64, width=24, normalize=True),
        data=Data(
            name=OmniglotMinimal.name,
            batch_size=128,
            size=(28, 28),
            options={"size": 56},
            augment=Augment(rotate=15.0, scale=(0.82, 1.22), shift=0.08, shear=0.3),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=2e-3,
            weight_decay=1e-3,
            schedule="cosine",
            warmup_steps=50,
            ema=0.99,
        ),
        steps=1300,
        split="test",
        eval_every=260,
        checkpoint_every=260,
    )
