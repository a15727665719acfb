"""Remembered maxima (SegNet) on scenes of digits, trained as `unet_digits` is.

python -m experiments.launch unpool_digits
"""

from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import MaxUnpoolNet
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import Segmentation


def experiment() -> Experiment:
    return Experiment(
        task=Segmentation(class_weights="median_frequency", class_weight_power=0.5),
        model=MaxUnpoolNet(num_classes=11, width=16, blocks=(2, 2, 2)),
        data=Data(
            name="digit_scenes",
            batch_size=16,
            augment=Augment(brightness=0.1, contrast=0.1, scale=(0.9, 1.1)),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=3e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup_steps=50,
            ema=0.99,
        ),
        steps=2500,
        split="test",
        log_every=20,
        eval_every=500,
        checkpoint_every=500,
    )
