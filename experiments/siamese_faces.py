"""Same person or not? Cross-entropy on pairs of faces; tested on persons never seen in training.

The cut, pictures and encoder of triplet_faces.
python -m experiments.launch siamese_faces --set data.path=DIR (with the folders s3, s4 ...)
"""

import dataclasses

from experiments import triplet_faces
from zoo.models import SiameseVerifier
from zoo.train.config import Experiment
from zoo.train.embedding import Embedding


def experiment() -> Experiment:
    base = triplet_faces.experiment()
    return dataclasses.replace(
        base,
        task=Embedding(loss="pair_cross_entropy", headline="roc_auc"),
        model=SiameseVerifier(base.model),
        steps=400,
    )
