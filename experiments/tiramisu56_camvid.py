"""FC-DenseNet56 on CamVid, small pictures; all but model and steps is as in unet_camvid.

python -m experiments.launch tiramisu56_camvid --set data.path=DIR

Scored by each picture's own statistics, as by the authors. The paper's recipe is that of
tiramisu103_camvid, for this network with
--set model.growth_rate=12 --set model.blocks=4,4,4,4,4,4.
"""

import dataclasses

from experiments import unet_camvid
from zoo.models import FCDenseNet56
from zoo.train.config import Experiment


def experiment() -> Experiment:
    model = FCDenseNet56(num_classes=11, dropout_rate=0.0, eval_statistics="batch")
    steps = {"steps": 420, "eval_every": 140, "checkpoint_every": 140}
    return dataclasses.replace(unet_camvid.experiment(), model=model, **steps)
