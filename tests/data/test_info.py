import dataclasses
import json

from zoo.data.info import Info


def test_info_survives_json():
    info = Info("two", 2, ("a", "b"), ((0, 0, 0), (9, 8, 7)), 255, 1, (0.5,), (0.25,))
    assert Info.from_dict(json.loads(json.dumps(dataclasses.asdict(info)))) == info
