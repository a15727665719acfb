"""Contrastive loss on pairs of 8x8 digits; all else as in triplet_digits.

python -m experiments.launch contrastive_digits
"""

import dataclasses

from experiments import triplet_digits
from zoo.train.config import Experiment
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    base = triplet_digits.experiment()
    return dataclasses.replace(
        base,
        task=Embedding(loss="contrastive", options={"margin": 1.0}),
        data=dataclasses.replace(base.data, batch_size=32),
    )
