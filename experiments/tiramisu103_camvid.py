"""FC-DenseNet103 on CamVid, by the paper's recipe. NOT VERIFIED: nobody has run it.

python -m experiments.launch tiramisu103_camvid --set data.path=DIR
python -m experiments.launch tiramisu103_camvid --workdir runs/tiramisu103_tuned \
  --set data.path=DIR --set init_from=runs/tiramisu103_camvid --set data.crop=none \
  --set data.batch_size=1 --set optimizer.learning_rate=1e-4 --set optimizer.decay_steps=367

DIR holds train/, trainannot/ and so on of the SegNet tutorial's CamVid. An epoch is 367 pictures:
122 steps of 3 crops, or 367 of one whole picture in the fine-tuning, the second command. Scored by
each picture's own statistics, as by the authors; evaluate --set model.eval_statistics=running
scores the same parameters by running averages.
"""

from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import FCDenseNet103
from zoo.train.config import Experiment, Optimizer
from zoo.train.segmentation import Segmentation


def experiment() -> Experiment:
    return Experiment(
        task=Segmentation(),
        model=FCDenseNet103(num_classes=11, eval_statistics="batch"),
        data=Data(name="camvid", batch_size=3, crop=(224, 224), augment=Augment(flip=True)),
        optimizer=Optimizer(
            name="rmsprop",
            learning_rate=1e-3,
            weight_decay=1e-4,
            schedule="exponential",
            decay_rate=0.995,
            decay_steps=122,  # An epoch.
        ),
        steps=91_500,
        log_every=61,
        eval_every=610,
        checkpoint_every=610,
        patience=30,  # 150 epochs, as in the authors' code.
    )
