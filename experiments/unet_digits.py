"""U-Net on scenes of digits; as quickstart, trained longer, with AdamW and pictures scaled.

python -m experiments.launch unet_digits
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
