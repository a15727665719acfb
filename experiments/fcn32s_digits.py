"""FCN-32s on scenes of digits, small.

python -m experiments.launch fcn32s_digits
All but the model is as in unet_digits.
"""

import dataclasses

from experiments import unet_digits
from zoo.models import FCN32s
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = FCN32s(num_classes=11, width=8)
    return dataclasses.replace(unet_digits.experiment(), model=model)
