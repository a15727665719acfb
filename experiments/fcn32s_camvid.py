"""FCN-32s on CamVid, small.

python -m experiments.launch fcn32s_camvid --set data.path=DIR
All but model and learning rate is as in unet_camvid.
"""

import dataclasses

from experiments import unet_camvid
from zoo.models import FCN32s
from zoo.train.config import Experiment


def experiment() -> Experiment:
    unet = unet_camvid.experiment()
    return dataclasses.replace(
        unet,
        model=FCN32s(num_classes=11, width=8),
        # A third of U-Net's: there is no batch norm.
        optimizer=dataclasses.replace(unet.optimizer, learning_rate=1e-3),
    )
