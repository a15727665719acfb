"""The shapes that the figures of zoo/README.md show, against those of the papers."""

import pytest

from experiments import architectures


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    (drawing,) = architectures.FIGURES[name]
    return {module: shape[1:] for module, shape in architectures.outputs(drawing)}


def test_the_unet_is_figure_1_of_its_paper():
    found = shapes("unet")
    sides = [found[f"encoder_{i}"] for i in range(5)]
    assert sides == [(568, 568, 64), (280, 280, 128), (136, 136, 256), (64, 64, 512), (28, 28, 1024)]
    assert [found[f"decoder_{i}"][0] for i in (3, 2, 1, 0)] == [52, 100, 196, 388]
    assert found["head"] == (388, 388, 2)


@pytest.mark.slow
def test_the_tiramisu_is_table_2_of_its_paper():
    found = shapes("tiramisu")
    assert [found[f"down_{i}"][2] for i in range(6)] == [112, 192, 304, 464, 656, 896]
    assert [found[f"up_{i}"][2] for i in (4, 3, 2, 1, 0)] == [1088, 816, 578, 384, 256]


def test_every_skip_joins_boxes_that_are_there(tmp_path):
    """Of the figures that trace in a second."""
    for name in ("encoders", "patch_classifier", "fcn8s", "unet", "unpool"):
        for drawing in architectures.FIGURES[name]:
            names = [name for name, _ in architectures.outputs(drawing)]
            assert {*drawing.skips, *drawing.skips.values()} <= set(names)
