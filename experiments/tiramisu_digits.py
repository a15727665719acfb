"""A small FC-DenseNet on scenes of digits; all else as in unet_digits. NOT VERIFIED: nobody ran it.

python -m experiments.launch tiramisu_digits
"""

import dataclasses

from experiments import unet_digits
from zoo.models import FCDenseNet56
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = FCDenseNet56(num_classes=11, growth_rate=8, blocks=(2, 2, 2), features=16)
    return dataclasses.replace(unet_digits.experiment(), model=model, steps=600)
