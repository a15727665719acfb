import pytest

from experiments.datasets._chosen import parse_numbers, split_by_name


@pytest.mark.parametrize(
    ("text", "want"),
    [("", []), ("7", [7]), (7, [7]), ("7-9", [7, 8, 9]), (" 3, 1-2,2", [1, 2, 3])],
)
def test_numbers_are_read_from_lists_and_ranges(text, want):
    assert parse_numbers(text, "x") == want


@pytest.mark.parametrize("text", ["a", "3-", "-3", "1,,2", "1.5", "²", None, "9-7", "0-9999999"])
def test_what_is_no_list_of_numbers_is_refused(text):
    with pytest.raises(ValueError, match="no list of numbers"):
        parse_numbers(text, "x")


def test_chosen_names_leave_the_training_split():
    chosen = {"validation_things": ["b"], "test_things": ["d", "a"]}
    want = {"a": "test", "b": "validation", "c": "train", "d": "test"}
    assert split_by_name("abcd", chosen) == want


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"test_x": ["Latn"]}, r"test_x names 'Latn' \(nearest: Latin\); there are Greek, Latin"),
        ({"validation_x": ["Greek"], "test_x": ["Greek"]}, "'Greek', which is chosen already"),
        ({"test_x": ["Greek", "Latin"]}, "test_x leave nothing to train with"),
    ],
)
def test_bad_choices_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        split_by_name(["Greek", "Latin"], chosen)


def test_a_list_that_set_has_read_as_numbers():
    assert parse_numbers((19, 20), "persons") == parse_numbers("19,20", "persons") == [19, 20]
    assert parse_numbers((0, "3-5"), "persons") == [0, 3, 4, 5]
