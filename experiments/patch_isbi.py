"""PatchClassifier on the ISBI 2012 membranes, its paper's task. NOT VERIFIED: nobody has run it.

python -m experiments.launch patch_isbi --set data.path=DIR

All but model and learning rate is as in unet_isbi; the model is N4 with a third of its features.
"""

import dataclasses

from experiments import unet_isbi
from zoo.models import PatchClassifier
from zoo.train.config import Experiment


def experiment() -> Experiment:
    unet = unet_isbi.experiment()
    return dataclasses.replace(
        unet,
        model=PatchClassifier(num_classes=2, width=16, hidden=64),
        # A third of U-Net's: there is no batch norm.
        optimizer=dataclasses.replace(unet.optimizer, learning_rate=1e-3),
    )
