import jax
import numpy as np

from experiments import sliding_window


def test_networks_reach_as_far_as_the_window():
    for window in sliding_window.WINDOWS:
        patch, full, unet = sliding_window.networks(window, 4)
        assert full.halo == patch.halo == window // 2 <= unet.halo
        image = jax.ShapeDtypeStruct((1, 9, 9, 1), np.float32)
        for model in (patch, full):
            jax.eval_shape(model.init, jax.random.key(0), image)


def test_a_row_tells_the_same_logits_and_more_work():
    cells = sliding_window.row(31, size=5, width=2, repeats=1).split("|")
    assert cells[1].strip() == "31" and int(cells[2]) >= 2
    assert float(cells[4]) < 1e-5
    assert cells[8].strip().endswith("(depth 2)")
