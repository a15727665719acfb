"""Same digit or not? Binary cross-entropy on pairs; all else as in triplet_digits.

python -m experiments.launch siamese_digits
"""

import dataclasses

from experiments import triplet_digits
from zoo.models import SiameseVerifier
from zoo.train.config import Experiment
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    base = triplet_digits.experiment()
    return dataclasses.replace(
        base,
        task=Embedding(loss="pair_cross_entropy", headline="roc_auc"),
        model=SiameseVerifier(base.model),
        data=dataclasses.replace(base.data, batch_size=32),
    )
