"""Tables of classes of every kind, by hand."""

import pytest

from experiments.folders.tables import find_table, read_table


def test_other_files_are_no_tables(tmp_path):
    (tmp_path / "dataset.json").write_text('{"name": "x", "numTraining": 20}')
    (tmp_path / "notes.txt").write_text("ground 0")
    assert find_table(tmp_path, []) is None
    (tmp_path / "classes.csv").write_text("ground,0,1\n")
    with pytest.raises(
        ValueError, match=r"classes.csv cannot be read .*'ground' has the numbers \[0, 1\]"
    ):
        read_table(tmp_path / "classes.csv", False)


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("classes.txt", "type 1\ntype 2\n", {0: "type 1", 1: "type 2"}),
        ("classes.txt", "sky\ntype 1\ntype 2", {0: "sky", 1: "type 1", 2: "type 2"}),
        ("classes.txt", "grade 3\nstage 3\n", {0: "grade 3", 1: "stage 3"}),
        ("classes.txt", "name id\nroad 1\ncar 4\n", {1: "road", 4: "car"}),
        ("classes.txt", "1 type 1\n2 type 2\n", {1: "type 1", 2: "type 2"}),
        ("classes.txt", "0\n1\n2\n", {0: "0", 1: "1", 2: "2"}),
        ("classes.csv", "name,id\ntype 1,0\ntype 2,5\n", {0: "type 1", 5: "type 2"}),
        ("classes.json", '["type 1", "type 2"]', {0: "type 1", 1: "type 2"}),
        ("_classes.csv", "Pixel Value, Class\n0, ground\n1, type 1\n", {0: "ground", 1: "type 1"}),
        ("classes.json", '["road 1", "car 2"]', {0: "road 1", 1: "car 2"}),
        ("classes.json", '[["name", "id"], ["sky", 0], ["road", 1]]', {0: "sky", 1: "road"}),
        ("classes.json", '{"the \\"big\\" car": 1, "b": 0}', {1: "the big car", 0: "b"}),
        ("classes.csv", '"tree, old",3\n"road",5\n,,\n', {3: "tree, old", 5: "road"}),
    ],
)
def test_a_number_of_a_name_is_no_id(name, text, want, tmp_path):
    (tmp_path / name).write_text(text)
    found = read_table(find_table(tmp_path, []), False)
    assert {value: row for value, (row, _) in found.items()} == want


@pytest.mark.parametrize("head", ["name", "Class", "label", "classes", "class_name", '"Category"'])
@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_a_heading_of_names_is_no_class(head, ending, tmp_path):
    """Ids are places here, so every name would move by one."""
    table = tmp_path / f"classes.{ending}"
    table.write_text(f"{head}\nbackground\nhouse\nlabel\n")
    found = read_table(table, False)
    assert found == {0: ("background", None), 1: ("house", None), 2: ("label", None)}


def test_a_class_may_have_the_name_of_a_heading(tmp_path):
    """Where it cannot be one: a list in JSON has none, nor has it a number."""
    (tmp_path / "a.json").write_text('["label", "text"]')
    (tmp_path / "b.csv").write_text("label,0\ntext,1\n")
    (tmp_path / "c.csv").write_text("classic\nold class\n")
    names = [[n for n, _ in read_table(f, False).values()] for f in sorted(tmp_path.iterdir())]
    assert names == [["label", "text"], ["label", "text"], ["classic", "old class"]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", "name,hex\nbg,#000000\nhouse,#C80000\ntree,#00c800\n"),
        ("classes.csv", 'id,name,color\n0,bg,"#000000"\n1,house,"#c80000"\n2,tree,"#00c800"\n'),
        ("classes.csv", "name,color,id\nbg,#000000,0\nhouse,#c80000,1\ntree,#00c800,2\n"),
        ("colors.txt", "# colour name\n#000000 bg\n#c80000 house\n#00c800 tree\n"),
        ("colors.txt", "bg #000000\nhouse #c80000\ntree #00c800\n"),
        ("classes.json", '{"bg": "#000000", "house": "#c80000", "tree": "#00c800"}'),
    ],
)
def test_colours_in_hexadecimal_are_read(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    rows = [("bg", 0), ("house", 0xC80000), ("tree", 0x00C800)]
    assert read_table(tmp_path / name, True) == {rgb: (n, rgb) for n, rgb in rows}
    assert read_table(tmp_path / name, False) == dict(enumerate(rows))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,description\nbg,all else\nhouse,a roof\n", "'bg' holds 'all else'"),
        ("id,name,description\n0,bg,all else\n1,house,a roof\n", "'bg' holds 'all else'"),
        ("name,r,g,b,note\nbg,0,0,0,\nhouse,9,0,0,rare\n", "'house' holds 'rare'"),
        ("bg,#000\nhouse,#c00\n", "'bg' holds '#000'"),
        ("bg,0\nhouse,0.5\n", "'house' holds '0.5'"),
        ("name,id\nground,0\nhouse,1\ntree,1\n", "'house' and 'tree' are both 1"),
        ("name,id\nground,0\nhouse\ntree,1\n", "'house' has no number"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(text, words, tmp_path):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(ValueError, match=f"classes.csv cannot be read .*{words}.*give rows"):
        read_table(tmp_path / "classes.csv", False)
