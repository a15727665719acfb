import pytest

from zoo.data.config import Data


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
