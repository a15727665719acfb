"""A small FC-DenseNet on scenes of digits; all else but the steps as in unet_digits.

python -m experiments.launch tiramisu_digits
"""

import dataclasses

from experiments import unet_digits
from zoo.models import FCDenseNet56
from zoo.train.config import Experiment


def experiment() -> Experiment:
    fields = {"growth_rate": 16, "blocks": (1, 2, 4, 4), "features": 16, "dropout_rate": 0.0}
    model = FCDenseNet56(num_classes=11, **fields)
    steps = {"steps": 1150, "eval_every": 575, "checkpoint_every": 575}
    return dataclasses.replace(unet_digits.experiment(), model=model, **steps)
