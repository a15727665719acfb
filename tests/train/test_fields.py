import json
from typing import Literal

import pytest
from flax import linen as nn

from zoo.data.augment import Augment
from zoo.data.config import Data
from zoo.models import UNet
from zoo.train import fields


class Net(nn.Module):
    width: int = 3
    rates: tuple[float, ...] = (0.1,)


def test_linen_s_own_fields_are_no_fields():
    for net in (Net(), Net):
        assert fields.hints(net) == {"width": int, "rates": tuple[float, ...]}


@pytest.mark.parametrize(
    ("value", "hint", "want"),
    [(3, float, 3.0), ([1, 2], tuple[int, int], (1, 2)), (None, int | None, None), (True, bool, 1)],
)
def test_values_become_their_type(value, hint, want):
    got = fields.accept(value, hint, "x")
    assert (got == want and type(got) is type(want)) or got is True


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        (True, int, "x: expected int, got True"),
        (1.5, int, "x: expected int, got 1.5"),
        (float("nan"), float, "x: expected float, got nan"),
        (10**400, float, "x: expected float, got 1000"),
        ((1,), tuple[int, int], r"x: expected \(int, int\), got \(1,\)"),
        ("c", Literal["a", "b"], "x: expected one of a, b, got 'c'"),
        ("10", Literal[0, 100], r"x: expected one of 0, 100, got '10' \(nearest: 100"),
    ],
)
def test_values_of_another_type_are_refused(value, hint, words):
    with pytest.raises(ValueError, match=words):
        fields.accept(value, hint, "x")


def test_encode_and_decode_are_inverse():
    data = Data(name="x", size=(2, 3), options={"k": "v", "t": (1, 2)}, augment=Augment(flip=True))
    plain = fields.encode(data, "", Data)
    assert plain["size"] == [2, 3] and plain["augment"]["flip"] is True
    assert fields.decode(json.loads(json.dumps(plain)), "", Data) == data
    model = UNet(num_classes=3, width=8)
    plain = fields.encode(model, "")
    assert plain["class"] == "zoo.models.unet.UNet" and "parent" not in plain
    assert fields.decode(json.loads(json.dumps(plain)), "") == model


def test_types_are_described_as_a_person_writes_them():
    assert fields.describe(tuple[int, int] | None) == "(int, int) or none"
    assert fields.describe(tuple[float, ...]) == "(float, ...)"
    assert fields.describe(dict[str, int]) == "dict"
