"""A small FC-DenseNet on scenes of digits; all else as in unet_digits. NOT VERIFIED: falls short.

python -m experiments.launch tiramisu_digits

These 600 steps, 10 minutes of one core, end at a test mean IoU of 0.132, where U-Net has 0.51 on
validation at step 500 of its 2,500: 25 November 2026, AMD EPYC, jax 0.10.2. The loss flattens
near 1.3: digits are told from the background, hardly from each other.
"""

import dataclasses

from experiments import unet_digits
from zoo.models import FCDenseNet56
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = FCDenseNet56(num_classes=11, growth_rate=8, blocks=(2, 2, 2), features=16)
    return dataclasses.replace(unet_digits.experiment(), model=model, steps=600)
