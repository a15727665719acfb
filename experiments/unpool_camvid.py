"""MaxUnpoolNet on CamVid; all else as in unet_camvid.

python -m experiments.launch unpool_camvid --set data.path=DIR
"""

import dataclasses

from experiments import unet_camvid
from zoo.models import MaxUnpoolNet
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = MaxUnpoolNet(num_classes=11, width=16, blocks=(2, 2, 2, 2))
    return dataclasses.replace(unet_camvid.experiment(), model=model)
