"""PatchClassifier on scenes of digits; all else as in unet_digits.

python -m experiments.launch patch_digits
"""

import dataclasses

from experiments import unet_digits
from zoo.models import PatchClassifier
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = PatchClassifier(num_classes=11, window=31, kernels=(4, 5, 4), width=16, hidden=64)
    return dataclasses.replace(unet_digits.experiment(), model=model)
