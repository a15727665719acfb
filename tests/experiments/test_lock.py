import pytest

from experiments import launch
from experiments.lock import locked


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def test_a_workdir_is_held_by_one_alone_and_let_go(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            with (
                pytest.raises(ValueError, match="run is being trained by another launch: wait"),
                locked(tmp_path / "cache" / ".." / "run"),  # The same by another name.
            ):
                pass
            with locked(tmp_path / "other"):
                pass


def test_where_there_are_no_locks_a_launch_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    with locked(tmp_path / "run"):
        pass
    assert "Warning: no lock for" in capsys.readouterr().err


def test_a_second_launch_is_refused_in_one_line(tmp_path, capsys):
    workdir = tmp_path / "run"
    with locked(workdir):
        assert launch.main(["triplet_digits", "--workdir", str(workdir)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is being trained by another launch" in error
    assert not workdir.exists()
