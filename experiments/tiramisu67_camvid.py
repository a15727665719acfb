"""FC-DenseNet67 on CamVid; all else as in tiramisu103_camvid. NOT VERIFIED: nobody has run it.

python -m experiments.launch tiramisu67_camvid --set data.path=DIR
"""

import dataclasses

from experiments import tiramisu103_camvid
from zoo.models import FCDenseNet67
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = FCDenseNet67(num_classes=11, eval_statistics="batch")
    return dataclasses.replace(tiramisu103_camvid.experiment(), model=model)
