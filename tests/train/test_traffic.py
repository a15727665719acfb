"""What crosses the devices in a step, and what each has to do: README's scaling model against the
compiled program."""

import math
import re

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

import zoo.losses.batch
import zoo.ops.distance
from zoo.data.info import Info
from zoo.models import UNet
from zoo.train.embedding import Embedding
from zoo.train.parallel import Layout
from zoo.train.segmentation import Segmentation
from zoo.train.state import create
from zoo.train.step import make_train_step

BYTES = {"f32": 4, "s32": 4, "pred": 1}


def traffic(program: str) -> dict[str, int]:
    """Bytes of the results of each kind of collective in a compiled program (HLO)."""
    found = {}
    kinds = r"= (.*?) ((?:all|collective|reduce)-[a-z]+)(?:-start)?\("
    for shapes, kind in re.findall(kinds, program):
        for dtype, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            size = math.prod(int(n) for n in sides.split(",") if n)
            found[kind] = found.get(kind, 0) + BYTES[dtype] * size
    return found


class Points(nn.Module):
    """Embeddings [b, 4] by one matrix."""

    @nn.compact
    def __call__(self, image, *, train=False):
        return nn.Dense(4)(image.reshape(len(image), -1))


def compiled(model, task, batch, devices=8):
    """The number of parameters, and the program of the step on so many devices."""
    layout, tx = Layout(devices=jax.devices()[:devices]), optax.sgd(0.1, momentum=0.9)
    blank = np.zeros((1, *batch["image"].shape[-3:]), np.float32)
    state = create(model, (blank,), tx, seed=0, ema=True)
    step = layout.map(make_train_step(model, task, tx, ema_decay=0.9))
    program = step.lower(layout.put(state), layout.split(batch)).compile()
    return sum(x.size for x in jax.tree.leaves(state.params)), program


def test_a_step_reduces_the_gradients_and_the_two_sums_of_the_loss():
    assert jax.device_count() == 8
    info = Info("test", 3, tuple("abc"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), 255, 1, (0.5,), (0.25,))
    model = UNet(num_classes=3, width=2, depth=1, dropout_rate=0.0)
    batch = {"image": np.zeros((8, 8, 8, 1), np.float32), "label": np.zeros((8, 8, 8), np.int32)}
    batch["weight"] = np.ones(8, np.float32)
    parameters, program = compiled(model, Segmentation().bind(info), batch)
    assert parameters == 3 * 3 * (2 + 4 + 8 + 16 + 8 + 4) + 2 * 2 * 8 + 6 + 4 * 2 + 2 * 4 + 2 + 3
    assert traffic(program.as_text()) == {"all-reduce": 4 * (parameters + 2)}


def mining(loss, options, b, devices=8):
    """As `compiled`, of the step of a loss that mines a batch of b."""
    info = Info("test", 5, tuple("abcde"), channels=1, mean=(0.5,), std=(0.25,))
    task = Embedding(loss=loss, options=options).bind(info)
    batch = {"image": np.zeros((b, 1, 4, 4, 1), np.float32)}
    batch |= {"label": np.zeros((b, 1), np.int32), "weight": np.ones(b, np.float32)}
    return compiled(Points(), task, batch, devices)


def test_mining_gathers_embeddings_labels_and_weights_besides():
    parameters, program = mining("batch_hard_triplet", {"margin": 0.3}, 16)
    found = traffic(program.as_text())
    assert parameters == 16 * 4 + 4
    # The spread of embeddings, which is logged: a centre [4], a sum of squares and a count of rows,
    # which is used twice and which XLA may reduce once.
    assert found["all-reduce"] // 4 - parameters - 2 in (4 + 2, 4 + 3)
    # Each row to all: its embedding [4], label and weight; and gradients of the rows come back.
    assert found["all-gather"] == 4 * 16 * (4 + 1 + 1)
    assert found["reduce-scatter"] == 4 * 2 * 4


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("batch_all_triplet", {"margin": 0.3}),
        ("batch_hard_triplet", {"margin": 0.3}),
        ("batch_semi_hard_triplet", {"margin": 0.3}),
        ("multi_similarity", {}),
        ("supervised_contrastive", {"temperature": 0.3}),
    ],
)
def test_each_device_mines_its_own_rows_alone(loss, options, monkeypatch):
    """All eight might mine all rows, and the loss and its gradient would be the same."""
    for module in (zoo.losses.batch, zoo.ops.distance):  # XLA counts the body of a loop once.
        monkeypatch.setattr(module, "rows_at_once", lambda m: 512)
    one, eight = (
        mining(loss, options, 512, devices)[1].cost_analysis()["flops"] for devices in (1, 8)
    )
    assert one > 512 * 512 * 4  # A number or more of each pair's coordinates.
    assert eight < one / 6
