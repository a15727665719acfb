"""A small U-Net on scenes of digits, from nothing to scores and pictures in minutes on a CPU.

python -m experiments.launch quickstart
"""

from experiments.datasets import DigitScenes
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import UNet
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import Segmentation


def experiment() -> Experiment:
    return Experiment(
        task=Segmentation(class_weights="median_frequency", class_weight_power=0.5),
        model=UNet(num_classes=11, width=16, depth=3, norm="batch", dropout_rate=0.0),
        data=Data(
            name=DigitScenes.name,
            batch_size=16,
            augment=Augment(brightness=0.1, contrast=0.1),
        ),
        optimizer=Optimizer(
            name="adam", learning_rate=3e-3, schedule="cosine", warmup_steps=50, ema=0.99
        ),
        steps=750,
        split="test",
        log_every=20,
        eval_every=375,
        checkpoint_every=375,
    )
