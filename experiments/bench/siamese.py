"""The classic small Siamese training: same digit or not, by binary cross-entropy on pairs.

An epoch over pairs of 28 x 28 pictures that lie in memory as NumPy arrays, shuffled, in batches of
64, by Adam. Keras runs `fit` on JAX and on TensorFlow; ours is the launcher's step, fed by a loop.
"""

import os

from experiments.bench.row import OURS, Case, Row, Side

BATCH = 64


def rows(*, quick: bool) -> list[Row]:
    options = {"pairs": 128 if quick else 2560}
    sides = {OURS: Side(f"{__name__}:ours", options, ("jax", "flax"))}
    for backend, name in (("jax", "JAX"), ("tensorflow", "TensorFlow")):
        sides[f"Keras on {name}"] = Side(
            f"{__name__}:theirs",
            options,
            ("keras", backend),
            environment={"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
    what = f"SiameseVerifier, an epoch of {options['pairs']} pairs of 28 x 28 px in batches of 64"
    return [Row("siamese/train", what, sides, images=2 * options["pairs"])]


def data(pairs: int):
    """Noise: two pictures [n, 28, 28, 1] float32, and whether they match [n] bool."""
    import numpy as np

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, pairs, 28, 28, 1)).astype(np.float32)
    return x, y, rng.random(pairs) < 0.5


def ours(*, pairs: int) -> Case:
    import jax
    import numpy as np
    import optax

    from zoo.data.info import Info
    from zoo.models import SiameseEncoder, SiameseVerifier
    from zoo.train import state
    from zoo.train.embedding import Embedding
    from zoo.train.parallel import Layout
    from zoo.train.step import make_train_step

    x, y, same = data(pairs)
    images, labels = np.stack([x, y], axis=1), np.stack([same, np.ones_like(same)], axis=1)
    labels = labels.astype(np.int32)  # A pair matches where its two labels agree.
    model, tx, layout = SiameseVerifier(SiameseEncoder()), optax.adam(1e-3), Layout()
    task = Embedding(loss="pair_cross_entropy").bind(Info("noise", 2, ("0", "1")))
    held = layout.put(state.create(model, (x[:1], y[:1]), tx, seed=0, ema=False))
    run, rng = layout.map(make_train_step(model, task, tx), donate=True), np.random.default_rng(0)
    weight = np.ones(BATCH, np.float32)

    def call() -> None:
        nonlocal held
        for i in rng.permutation(pairs).reshape(-1, BATCH):
            batch = {"image": images[i], "label": labels[i], "weight": weight}
            held, _ = run(held, layout.split(batch))
        jax.block_until_ready(held)

    return Case(call)


def keras_model():
    """The network in Keras: two pictures -> the probability that they match."""
    import keras
    from keras import layers, ops

    class Distance(layers.Layer):
        def call(self, x, y):
            # Not below epsilon: the gradient of sqrt at 0 is infinite.
            square = ops.sum(ops.square(x - y), axis=1, keepdims=True)
            return ops.sqrt(ops.maximum(square, keras.config.epsilon()))

    image = keras.Input((28, 28, 1))
    h = image
    for _ in range(2):
        h = layers.Conv2D(64, 2, padding="same", activation="relu")(h)
        h = layers.Dropout(0.3)(layers.MaxPooling2D(2)(h))
    encoder = keras.Model(image, layers.Dense(48)(layers.GlobalAveragePooling2D()(h)))
    x, y = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    distance = Distance()(encoder(x), encoder(y))
    return keras.Model([x, y], layers.Dense(1, activation="sigmoid")(distance))


def theirs(*, pairs: int) -> Case:
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(len(os.sched_getaffinity(0)))
    x, y, same = data(pairs)
    model = keras_model()
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
    target = same.astype("float32")

    def call() -> None:
        model.fit([x, y], target, batch_size=BATCH, epochs=1, verbose=0)

    return Case(call)
