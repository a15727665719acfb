"""Triplets mined from all training digits every 50 steps, with the network's current embeddings.

Semi-hard ones, Schroff et al., "FaceNet", CVPR 2015; all else as in triplet_digits.
python -m experiments.launch triplet_offline_digits
"""

import dataclasses

from experiments import triplet_digits
from zoo.train.config import Experiment
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    base = triplet_digits.experiment()
    return dataclasses.replace(
        base,
        task=Embedding(loss="triplet", options={"margin": 0.2}, mining="semi_hard", renew_every=50),
        data=dataclasses.replace(base.data, batch_size=32),
    )
