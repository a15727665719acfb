"""MaxUnpoolNet on scenes of digits; all else but the steps as in unet_digits.

python -m experiments.launch unpool_digits
"""

import dataclasses

from experiments import unet_digits
from zoo.models import MaxUnpoolNet
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = MaxUnpoolNet(num_classes=11, width=16, blocks=(2, 2, 2))
    # Its loss stands still for 500 steps, at which it tells digits from ground alone.
    return dataclasses.replace(unet_digits.experiment(), model=model, steps=3000)
