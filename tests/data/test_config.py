import pytest

from zoo.data.config import Data
from zoo.data.info import Info


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("size", (0, 10)),
        ("crop", (10,)),
        ("cache_mib", -1),
        ("threads", -1),
        ("score_at", "middle"),
    ],
)
def test_refuses_impossible_settings(field, value):
    with pytest.raises(ValueError, match=rf"data\.{field} must .*; got"):
        Data(name="x", **{field: value})


def test_options_are_not_shared():
    a, b = Data(name="x"), Data(name="x")
    assert a == b and a.options is not b.options


def test_what_opens_a_source_is_told():
    assert Data(name="x", cache_mib=7, path="p").opening() == {
        "path": "p", "image": "image", "label": "label", "num_classes": None, "options": {},
        "cache_mib": 7,
    }  # fmt: skip


def test_mean_and_std_are_the_data_sets_unless_given():
    info = Info("x", 2, ("a", "b"), channels=3, mean=(0.4, 0.5, 0.6), std=(0.3,) * 3)
    assert Data(name="x").normalised(info) == info
    imagenet = Data(name="x", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert imagenet.normalised(info).mean == imagenet.mean
    assert imagenet.normalised(info).std == imagenet.std
