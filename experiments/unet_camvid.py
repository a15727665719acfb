"""U-Net on CamVid road scenes, 11 classes, small enough for a CPU.

python -m experiments.launch unet_camvid --set data.path=DIR

DIR holds train/, trainannot/, val/ and valannot/ of the SegNet tutorial's CamVid. The default holds
out the tail of each training video, as the given validation set is one clip of 6.7 seconds; that
set is the split given_val.
"""

from experiments.datasets import Camvid
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import UNet
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import Segmentation


def experiment() -> Experiment:
    return Experiment(
        task=Segmentation(class_weights="median_frequency", class_weight_power=0.5),
        model=UNet(num_classes=11, width=16, depth=4, norm="batch", dropout_rate=0.0),
        data=Data(
            name=Camvid.name,
            batch_size=4,
            size=(144, 192),
            options={"validation": "tail"},
            augment=Augment(flip=True, scale=(0.75, 1.5), brightness=0.15, contrast=0.3),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=2e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup_steps=100,
            ema=0.99,
        ),
        steps=2400,
        log_every=20,
        eval_every=400,
        checkpoint_every=400,
    )
