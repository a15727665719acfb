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
    ],
)
def test_a_number_of_a_name_is_no_id(name, text, want, tmp_path):
    (tmp_path / name).write_text(text)
    found = read_table(find_table(tmp_path, []), False)
    assert {value: row for value, (row, _) in found.items()} == want


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,id\nground,0\nhouse,1\ntree,1\n", "'house' and 'tree' are both 1"),
        ("name,id\nground,0\nhouse\ntree,1\n", "'house' has no number"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(text, words, tmp_path):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(ValueError, match=f"classes.csv cannot be read .*{words}.*give rows"):
        read_table(tmp_path / "classes.csv", False)
