"""Batch-all triplets on 8x8 digits; all else as in triplet_digits.

python -m experiments.launch triplet_all_digits
"""

import dataclasses

from experiments import triplet_digits
from zoo.train.config import Experiment
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    base = triplet_digits.experiment()
    task = Embedding(loss="batch_all_triplet", options={"margin": 0.2}, images_per_class=16)
    return dataclasses.replace(base, task=task)
