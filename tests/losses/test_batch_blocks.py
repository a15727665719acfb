"""Batches of several blocks of rows and several tiles of others."""

import numpy as np

from batch_triplets import assert_equal, each_distance, each_loss, example, loop, run
from zoo.losses import batch
from zoo.ops import distance


@each_distance
@each_loss
def test_blocks_and_tiles_match_the_loop(name, squared, monkeypatch):
    """Nine blocks of 16 rows and one of 6, a whole tile and part of one; 20 or more a class."""
    monkeypatch.setattr(batch, "rows_at_once", lambda m: 16)
    assert distance._TILE == 128
    x, labels = example(b=150, d=6)
    # Of integers: their squared distances are exact, and neither they nor their roots differ by
    # 2.5, so that among half a million triplets none is in or out by rounding.
    x = np.round(3 * x)
    x[-1], labels[-1] = x[0], labels[0] - 1  # Near rows have a gradient by another way.
    options = {"margin": 2.5, "squared": squared}
    assert_equal(run(name, x, labels, **options), loop(name, x, labels, **options))
