"""U-Net on your own folder of pictures and masks; sizes, classes and steps are planned from it.

python -m zoo check DIR
python -m experiments.launch segment_folder --set data.path=DIR

DIR may have any usual layout: images/ and masks/, NAME.jpg beside NAME_mask.png, train/ and
trainannot/, VOC's, COCO's, nnU-Net's, Cityscapes'. What data.options.group, a regular expression,
finds in a path keeps pictures in one split. What is not planned stands below; `--set` wins over
both.
"""

from experiments.datasets import ImageFolderMasks
from experiments.plan import segmentation as plan  # noqa: F401  The launcher asks for it.
from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import UNet
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import Segmentation


def experiment() -> Experiment:
    return Experiment(
        task=Segmentation(class_weights="median_frequency", class_weight_power=0.5),
        model=UNet(num_classes=2, width=16, depth=3, norm="batch", dropout_rate=0.0, icnr=True),
        data=Data(
            name=ImageFolderMasks.name,
            augment=Augment(flip=True, scale=(0.8, 1.25), brightness=0.1, contrast=0.2),
        ),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=3e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup_steps=30,
            ema=0.99,
        ),
        steps=400,
    )
