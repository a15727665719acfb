"""What masks of every kind mean, by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.folders.meanings import look, understand
from experiments.folders.tables import find_table

RED, GREEN, BLACK = 0xC80000, 0x00C800, 0x000000


def blocks(values, side=6):
    """A row of squares, of one value each."""
    return np.repeat(np.repeat(np.array([values]), side, 0), side, 1)


def grey(path, values, dtype=np.uint8):
    Image.fromarray(blocks(values).astype(dtype)).save(path)


def rgb(path, values):
    pixels = blocks(values)
    Image.fromarray(
        np.stack([pixels >> 16, pixels >> 8 & 255, pixels & 255], -1).astype(np.uint8)
    ).save(path)


def meaning(*masks, table=None):
    return understand({mask: look(mask) for mask in masks}, table)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ([0, 255], {0: 0, 255: 1}),
        ([0, 1], {0: 0, 1: 1}),
        ([3, 7], {3: 0, 7: 1}),
        ([0, 1, 2, 255], {0: 0, 1: 1, 2: 2, 255: 255}),
        ([1, 2, 3, 255], {1: 0, 2: 1, 3: 2, 255: 255}),
        ([0, 128, 255], {0: 0, 128: 1, 255: 2}),
        ([0, 10, 200], {0: 0, 10: 1, 200: 2}),
    ],
)
def test_ids_of_every_kind_become_0_to_k(values, ids, tmp_path):
    grey(tmp_path / "a.png", values)
    found = meaning(tmp_path / "a.png")
    assert found.ids == ids and not found.coloured
    assert found.names == tuple(f"class {v}" for v in values if ids[v] != 255)
    assert ("void" in found.rule) == (255 in ids.values())
    assert found.own([*values, 99], False, {}) == [*ids.values(), -1]


def test_values_of_all_masks_count(tmp_path):
    grey(tmp_path / "a.png", [0, 2])
    grey(tmp_path / "b.png", [0, 5])
    assert meaning(tmp_path / "a.png", tmp_path / "b.png").ids == {0: 0, 2: 1, 5: 2}


def test_a_palette_is_read_by_index_and_its_255_is_void(tmp_path):
    mask = Image.fromarray(blocks([0, 3, 9, 255]).astype(np.uint8))
    palette = np.zeros((256, 3), np.uint8)
    palette[[3, 9, 255]] = (200, 0, 0), (0, 200, 0), (224, 224, 192)
    mask.putpalette(palette.tobytes())
    mask.save(tmp_path / "a.png")
    found = meaning(tmp_path / "a.png")
    assert found.ids == {0: 0, 3: 1, 9: 2, 255: 255}
    assert found.names == ("class 0", "class 3", "class 9")
    assert found.colours == (BLACK, RED, GREEN)


def test_few_colours_are_classes(tmp_path):
    rgb(tmp_path / "a.png", [BLACK, RED, GREEN])
    rgb(tmp_path / "b.png", [BLACK])  # All grey: still a mask in colour.
    found = meaning(tmp_path / "a.png", tmp_path / "b.png")
    assert found.coloured and found.ids == {BLACK: 0, GREEN: 1, RED: 2}
    assert found.colours == (BLACK, GREEN, RED)
    assert found.own([0], False, {}) == [0]


def test_grey_saved_as_colour_is_grey(tmp_path):
    rgb(tmp_path / "a.png", [0, 0xFFFFFF])
    found = meaning(tmp_path / "a.png")
    assert not found.coloured and found.ids == {0: 0, 255: 1}


def test_too_many_colours_need_a_table(tmp_path):
    rgb(tmp_path / "a.png", [7 * i << 8 for i in range(36)])
    with pytest.raises(ValueError, match=r"hold 36 classes .*classes.csv"):
        meaning(tmp_path / "a.png")


def test_one_class_is_none(tmp_path):
    grey(tmp_path / "a.png", [0])
    with pytest.raises(ValueError, match="hold 1 classes"):
        meaning(tmp_path / "a.png")


def test_soft_edges_are_stray_and_named(tmp_path):
    square = Image.fromarray(blocks([0, 255], 20).astype(np.uint8)).rotate(
        30, Image.Resampling.BICUBIC
    )
    square.save(tmp_path / "a.png")
    found = meaning(tmp_path / "a.png")
    assert found.ids == {0: 0, 255: 1}
    values = set(np.unique(np.asarray(square)).tolist()) - {0, 255}
    wrong = found.wrong(sorted(values), False, {})
    assert len(values) > 8 and f"holds {len(values)} stray value(s)" in wrong
    assert f"{min(values)}, " in wrong and "anti-aliased" in wrong


def test_a_line_one_pixel_wide_is_a_class(tmp_path):
    for values in ([0, 255], [0, 1, 2]):
        mask = blocks(values[:2], 9) if len(values) > 2 else np.zeros((9, 18), int)
        mask[4] = values[-1]
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "a.png")
        assert meaning(tmp_path / "a.png").ids == {v: i for i, v in enumerate(values)}


def test_jpeg_masks_are_refused_with_their_values(tmp_path):
    Image.fromarray(blocks([0, 255], 11).astype(np.uint8)).save(tmp_path / "a.jpg", quality=50)
    with pytest.raises(ValueError, match=r"a.jpg is a JPEG, .* \(it holds \d+, \d+"):
        look(tmp_path / "a.jpg")


def test_a_palette_among_colours_is_read_by_the_colours_it_shows(tmp_path):
    """Some programs save few colours with a palette, in an order of their own, twice at worst."""
    for name in "abc":
        rgb(tmp_path / f"{name}.png", [BLACK, RED, GREEN])
    mask = Image.fromarray(blocks([0, 1, 2, 3]).astype(np.uint8))
    mask.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 0, 200, 0, 0])
    mask.save(tmp_path / "p.png")
    seen = look(tmp_path / "p.png")
    found = meaning(*(tmp_path / f"{name}.png" for name in "abcp"))
    assert found.ids == {BLACK: 0, GREEN: 1, RED: 2} and found.colours == (BLACK, GREEN, RED)
    assert found.own([0, 1, 2, 3], seen.coloured, seen.palette) == [2, 1, 0, 2]
    wrong = found.wrong([0, 1], False, {0: RED, 1: 0x0000C8})
    assert "holds 1 stray value(s), #0000c8: " in wrong


def test_a_mask_in_colour_among_masks_of_ids_adds_no_class(tmp_path):
    for name in "abc":
        grey(tmp_path / f"{name}.png", [0, 1, 2, 255])
    rgb(tmp_path / "d.png", [BLACK, RED, GREEN])
    found = meaning(*(tmp_path / f"{name}.png" for name in "abcd"))
    assert found.ids == {0: 0, 1: 1, 2: 2, 255: 255} and "255 is void" in found.rule
    seen = look(tmp_path / "d.png")
    assert "the other masks hold ids" in found.wrong([*seen.pixels], seen.coloured, seen.palette)


def test_palettes_that_differ_are_refused(tmp_path):
    for name, palette in (("a", (0, 0, 0, 200, 0, 0)), ("b", (200, 0, 0, 0, 0, 0))):
        mask = Image.fromarray(blocks([0, 1]).astype(np.uint8))
        mask.putpalette(palette)
        mask.save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"b.png shows 0 as #c80000, another mask as #000000"):
        meaning(tmp_path / "a.png", tmp_path / "b.png")


TABLES = {
    "classes.csv": "name,r,g,b\nground,0,0,0\nhouse,200,0,0\ntree,0,200,0\n",
    "labelmap.txt":
        "# label:color_rgb:parts:actions\nground:0,0,0::\nhouse:200,0,0::\ntree:0,200,0::\n",
    "label_colors.txt": "0 0 0\tground\n200 0 0\thouse\n0 200 0\ttree\n",
    "classes.json": json.dumps({"ground": [0, 0, 0], "house": [200, 0, 0], "tree": [0, 200, 0]}),
    "labels.json": json.dumps([
        {"id": 0, "name": "ground", "color": [0, 0, 0]},
        {"id": 1, "name": "house", "color": [200, 0, 0]},
        {"id": 2, "name": "tree", "color": [0, 200, 0]},
    ]),
    "colors.csv": "id;name;r;g;b\n0;ground;0;0;0\n1;house;200;0;0\n2;tree;0;200;0\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_colours_tell_names_and_order(name, tmp_path):
    (tmp_path / name).write_text(TABLES[name])
    (tmp_path / "masks").mkdir()
    rgb(tmp_path / "masks" / "a.png", [BLACK, RED, 0x0000C8])
    table = find_table(tmp_path, [tmp_path / "masks" / "a.png"])
    assert table == tmp_path / name
    found = meaning(tmp_path / "masks" / "a.png", table=table)
    assert found.names == ("ground", "house", "tree")
    assert found.ids == {BLACK: 0, RED: 1, GREEN: 2}
    assert (
        found.wrong([RED, 0x0000C8], True, {})
        == f"holds 1 stray value(s), #0000c8: {name} does not list it"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "ground\ntraffic light\nvoid\n"),
        ("classes.csv", "name,id\nground,0\ntraffic light,1\nvoid,2\n"),
        ("classes.csv", "0,ground\n1,traffic light\n2,void\n"),
        (
            "dataset.json",
            '{"numTraining": 20, "labels": {"ground": 0, "traffic light": 1, "ignore": 2}}',
        ),
        ("dataset.json", '{"labels": {"0": "ground", "1": "traffic light", "2": "void"}}'),
    ],
)  # fmt: skip
def test_tables_of_ids_tell_names_and_void(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    grey(tmp_path / "a.png", [0, 1, 2, 7, 255])
    found = meaning(tmp_path / "a.png", table=find_table(tmp_path, []))
    assert found.names == ("ground", "traffic light")
    assert found.ids == {0: 0, 1: 1, 2: 255, 255: 255}
    assert "7" in found.wrong([0, 7], False, {})


def test_specks_do_not_make_a_foreground_of_255_void(tmp_path):
    masks = [tmp_path / f"{i}.png" for i in range(12)]
    for i, file in enumerate(masks):
        label = blocks([0, 255])
        label[0, 0] = i == 3
        Image.fromarray(label.astype(np.uint8)).save(file)
    found = meaning(*masks)
    assert found.ids == {0: 0, 255: 1} and "void" not in found.rule
    assert "holds 1 stray value(s), 1:" in found.wrong([0, 1, 255], False, {})
    assert found.wrong([0, 255], False, {}) == ""


@pytest.mark.parametrize("ones", [1, 6, 11])
def test_masks_of_0_and_1_among_some_of_0_and_255_are_refused(ones, tmp_path):
    masks = [tmp_path / f"{i}.png" for i in range(12)]
    for i, file in enumerate(masks):
        grey(file, [0, 1, 0] if i < ones else [0, 0, 0, 0, 255])
    words = rf"{12 - ones} hold 255 and at most one other value, as .*{ones}.png, .*but {ones} hold"
    with pytest.raises(ValueError, match=rf"{words} the ids 1, as .*0.png in 36 px, .*classes.csv"):
        meaning(*masks)


@pytest.mark.parametrize("with_class", [1, 6])
def test_255_is_void_where_it_seldom_stands_alone(with_class, tmp_path):
    """Padding of few pixels, or a border around what is labelled."""
    masks = [tmp_path / f"{i}.png" for i in range(8)]
    for i, file in enumerate(masks):
        label = blocks([0, 1 if i < with_class else 0], 30)
        label[0, : 2 if with_class == 1 else 20] = 255
        Image.fromarray(label.astype(np.uint8)).save(file)
    assert meaning(*masks).ids == {0: 0, 1: 1, 255: 255}


@pytest.mark.parametrize("text", ["background\nroad\n", "name,id\nbackground,0\nroad,1\n"])
def test_a_table_of_other_values_than_the_masks_hold_is_refused(text, tmp_path):
    """255 would be void, and the ground the only class that is trained."""
    (tmp_path / "classes.txt").write_text(text)
    grey(tmp_path / "a.png", [0, 255])
    with pytest.raises(ValueError, match="masks hold 0, 255, fewer than two classes of .*classes"):
        meaning(tmp_path / "a.png", table=tmp_path / "classes.txt")
    (tmp_path / "classes.txt").write_text("background,0\nroad,255\n")
    assert meaning(tmp_path / "a.png", table=tmp_path / "classes.txt").ids == {0: 0, 255: 1}
    grey(tmp_path / "b.png", [0, 0])  # Of healthy ones: all that they hold is listed.
    assert meaning(tmp_path / "b.png", table=tmp_path / "classes.txt").ids == {0: 0, 255: 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("red,200,0,0\ngreen,0,200,0\nvoid,0,0,0\n", "'void' .#000000. in the place of 2, .* at 0"),
        ("red,200,0,0\ngreen,0,200,0\n", "'red' .#c80000. in the place of 0, .* at 1"),
    ],
)
def test_a_palette_that_tells_other_ids_than_the_tables_rows_is_refused(text, words, tmp_path):
    (tmp_path / "classes.csv").write_text(text)
    mask = Image.fromarray(blocks([0, 1, 2]).astype(np.uint8))
    mask.putpalette((0, 0, 0, 200, 0, 0, 0, 200, 0))
    mask.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=words):
        meaning(tmp_path / "a.png", table=tmp_path / "classes.csv")
    rows = "void,0,0,0,0\nred,1,200,0,0\ngreen,2,0,200,0\nother,3,0,0,0\n"  # Two of a colour.
    (tmp_path / "classes.csv").write_text(rows)
    found = meaning(tmp_path / "a.png", table=tmp_path / "classes.csv")
    assert found.names == ("red", "green", "other") and found.ids[1] == 0 and found.ids[0] == 255
