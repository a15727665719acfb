"""FCN-32s on scenes of digits, small. NOT VERIFIED: nobody has run it.

python -m experiments.launch fcn32s_digits
All but model and learning rate is as in unet_digits.
"""

import dataclasses

from experiments import unet_digits
from zoo.models import FCN32s
from zoo.train.config import Experiment


def experiment() -> Experiment:
    unet = unet_digits.experiment()
    return dataclasses.replace(
        unet,
        model=FCN32s(num_classes=11, width=8),
        # A third of U-Net's: there is no batch norm.
        optimizer=dataclasses.replace(unet.optimizer, learning_rate=1e-3),
    )
