"""U-Net on the Oxford-IIIT pets' trimaps, a stock TFDS data set. NOT VERIFIED: nobody has run it.

pip install -e ".[tensorflow]" && python -m experiments.launch unet_pets

TFDS downloads 774 MiB and needs TensorFlow once, to prepare. The classes are pet, background and
border, which the files count from 1.
"""

from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import UNet
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import Segmentation


def experiment() -> Experiment:
    return Experiment(
        task=Segmentation(),
        model=UNet(num_classes=3, width=32, depth=4, norm="batch", dropout_rate=0.0),
        data=Data(
            name="oxford_iiit_pet",
            label="segmentation_mask",
            label_offset=-1,
            num_classes=3,
            train_split="train[:85%]",
            validation_split="train[85%:]",
            batch_size=16,
            size=(128, 128),
            score_at="input",
            augment=Augment(flip=True, brightness=0.1, contrast=0.1),
        ),
        optimizer=Optimizer(
            name="adamw", learning_rate=1e-3, weight_decay=1e-4, schedule="cosine", warmup_steps=100
        ),
        steps=5000,
        split="test",
    )
