"""FCN-8s on scenes of digits, small.

python -m experiments.launch fcn8s_digits --set init_from=runs/fcn16s_digits

It starts from a trained FCN-16s, as the paper trains it.
All but the model is as in unet_digits.
"""

import dataclasses

from experiments import unet_digits
from zoo.models import FCN8s
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = FCN8s(num_classes=11, width=8)
    return dataclasses.replace(unet_digits.experiment(), model=model)
