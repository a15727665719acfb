"""U-Net on the ISBI 2012 membranes, the paper's own task, small enough for a CPU.

python -m experiments.launch unet_isbi --set data.path=DIR

DIR holds train/image and train/label, the slices as PNG. Of twenty slices 0-14 train and 15-19
validate.
"""

from experiments.datasets import Isbi2012Em
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import UNet
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import Segmentation


def experiment() -> Experiment:
    return Experiment(
        # Membrane weighs 1.8 times cell. Equal weights (power 1: 3.3 times) overstate membrane: the
        # IoU of calibrated probabilities is best above IoU / (1 + IoU), about 0.4, not above 0.23.
        task=Segmentation(class_weights="median_frequency", class_weight_power=0.5, membrane=1),
        model=UNet(num_classes=2, width=16, depth=4, norm="batch", dropout_rate=0.0),
        data=Data(
            name=Isbi2012Em.name,
            batch_size=2,
            crop=(256, 256),
            augment=Augment(
                flip=True,
                flip_vertical=True,
                turns=True,
                scale=(0.8, 1.25),
                elastic_sigma=6.0,
                brightness=0.1,
                contrast=0.2,
            ),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=3e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup_steps=30,
            ema=0.99,
        ),
        steps=800,
        log_every=10,
        eval_every=100,
        checkpoint_every=100,
    )
