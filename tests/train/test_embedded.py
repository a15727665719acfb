import numpy as np

from zoo.train.embedded import Embedded, euclidean


def test_alphabets_of_twenty_are_run_and_smaller_ones_not():
    rows = [(20 * g + c, g, d) for g, n in ((0, 20), (1, 19)) for c in range(n) for d in (1, 2)]
    source = type("Source", (list,), {})({"name": str(i)} for i in range(len(rows)))
    source.labels, source.groups, source.drawers = np.array(rows).T
    # The points of the smaller alphabet tell nothing.
    points = np.eye(40)[np.where(source.groups == 0, source.labels, 39)]
    assert Embedded(points, source, None, euclidean).scores()["one_shot_accuracy"] == 1
