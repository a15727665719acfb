import dataclasses
import json

from zoo.data.info import Info


def test_info_survives_json():
    info = Info("two", 2, ("a", "b"), ((0, 0, 0), (9, 8, 7)), 255, 1, (0.5,), (0.25,))
    assert Info.from_dict(json.loads(json.dumps(dataclasses.asdict(info)))) == info


def test_a_set_of_labelled_pictures_needs_no_colours():
    fields = {"name": "two", "num_classes": 2, "class_names": ["a", "b"], "channels": 1}
    info = Info.from_dict({**fields, "mean": [0.5], "std": [0.25]})
    assert (info.colours, info.ignore_label) == ((), 255)
    assert Info.from_dict(json.loads(json.dumps(dataclasses.asdict(info)))) == info
