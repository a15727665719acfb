import types

import pytest

from zoo.data.checks import explained, require


def test_an_error_is_explained_and_others_pass():
    with pytest.raises(ValueError, match=r"^a\.txt cannot be read \(two lines\); copy it again\.$"):
        with explained("a.txt cannot be read", "copy it again", OSError):
            raise OSError("two\n  lines")
    with pytest.raises(KeyError):
        with explained("a.txt cannot be read", "copy it again", (OSError, TypeError)):
            raise KeyError("other")


def test_the_first_bad_field_is_named():
    config = types.SimpleNamespace(a=1, b=-1, c=-2)
    require(config, "data.", ("a",), "at least 0", lambda v: v >= 0)
    with pytest.raises(ValueError, match=r"^data\.b must be at least 0; got -1\.$"):
        require(config, "data.", ("a", "b", "c"), "at least 0", lambda v: v >= 0)
