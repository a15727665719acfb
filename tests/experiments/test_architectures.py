"""The shapes that the figures of zoo/README.md show, against those of the papers."""

import itertools

import pytest
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation

from experiments import architectures


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    (drawing,) = architectures.FIGURES[name]
    return {module: shape[1:] for module, shape in architectures.outputs(drawing)}


def test_the_unet_is_figure_1_of_its_paper():
    found = shapes("unet")
    sides = [found[f"encoder_{i}"] for i in range(5)]
    assert sides == [
        (568, 568, 64),
        (280, 280, 128),
        (136, 136, 256),
        (64, 64, 512),
        (28, 28, 1024),
    ]
    assert [found[f"decoder_{i}"][0] for i in (3, 2, 1, 0)] == [52, 100, 196, 388]
    assert found["head"] == (388, 388, 2)


def test_the_tiramisu_grows_as_counted_by_hand():
    """48 first; 16 a layer of 4, 5, 7, 10, 12 and 15; on the way up the new ones, skip and own."""
    found = shapes("tiramisu")
    down = [48 + 16 * n for n in (4, 4 + 5, 4 + 5 + 7, 26, 38, 53)]
    assert [found[f"down_{i}"][2] for i in range(6)] == down
    below = (15, 12, 10, 7, 5)
    up = [
        16 * n + skip + 16 * own
        for n, skip, own in zip(below, down[4::-1], (12, 10, 7, 5, 4), strict=True)
    ]
    assert [found[f"up_{i}"][2] for i in (4, 3, 2, 1, 0)] == up


def test_encoders_show_each_layer_once():
    """Two convolutions, of 28 px and of the 14 that pooling leaves; what dropout gives aside."""
    course, *_ = architectures.FIGURES["encoders"]
    found = [shape[1:] for name, shape in architectures.outputs(course) if "Dropout" not in name]
    assert found == [(28, 28, 1), (28, 28, 64), (14, 14, 64), (48,)]


def test_the_verifier_joins_both_pictures_in_one_encoder():
    (drawing,) = architectures.FIGURES["verifier"]
    assert drawing.inputs == 2
    found = architectures.outputs(drawing)
    assert found == [("image", (1, 28, 28, 1)), ("encoder", (2, 48)), ("head", (1, 1))]


@pytest.mark.slow
def test_every_skip_joins_boxes_that_are_there():
    for drawings in architectures.FIGURES.values():
        for drawing in drawings:
            names = [name for name, _ in architectures.outputs(drawing)]
            assert {*drawing.skips, *drawing.skips.values()} <= set(names)


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.FIGURES)
def test_no_words_meet_one_another_or_an_arrow(name):
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for drawing in architectures.FIGURES[name]:
        figure.clear()
        axes = figure.subplots()
        architectures.draw(axes, drawing)
        figure.draw_without_rendering()
        ends = [(t.get_position(), t.xy) for t in axes.texts if isinstance(t, Annotation)]
        arrows = [Path(axes.transData.transform(pair)) for pair in ends]
        boxes = [t.get_window_extent() for t in axes.texts if not isinstance(t, Annotation)]
        assert len(boxes) > 4 and arrows
        assert not [a for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
        for arrow in arrows:
            assert not [box for box in boxes if arrow.intersects_bbox(box, filled=False)]


def test_help_is_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        architectures.main(["--help"])
    assert end.value.code == 0 and "default: zoo/pictures" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
