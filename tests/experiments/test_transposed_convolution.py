import numpy as np
import pytest

from experiments import transposed_convolution


def test_the_copies_of_the_figure_sum_to_the_output(tmp_path):
    total = transposed_convolution.draw(tmp_path / "figure.png")
    # By hand: the corners are one copy's, the middle is all four's.
    assert total[0].tolist() == [1, 2, 1 + 2, 4, 2]
    assert total[2, 2] == 1 + 2 + 3 + 4
    assert total[3].tolist() == [6, 12, 6 + 8, 16, 8]
    assert (tmp_path / "figure.png").stat().st_size > 5_000


def test_the_program_holds_it_against_the_library(tmp_path, capsys, monkeypatch):
    path = tmp_path / "figure.png"
    assert transposed_convolution.main([str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    monkeypatch.setattr(transposed_convolution, "conv_transpose", lambda *_: np.zeros((1, 5, 5, 1)))
    with pytest.raises(AssertionError):
        transposed_convolution.main([str(path)])


def test_help_is_no_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        transposed_convolution.main(["--help"])
    assert end.value.code == 0 and "default: transposed_convolution.png" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
