"""FCN-16s on scenes of digits, small.

python -m experiments.launch fcn16s_digits --set init_from=runs/fcn32s_digits

It starts from a trained FCN-32s, as the paper trains it.
All but the model is as in unet_digits.
"""

import dataclasses

from experiments import unet_digits
from zoo.models import FCN16s
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = FCN16s(num_classes=11, width=8)
    return dataclasses.replace(unet_digits.experiment(), model=model)
