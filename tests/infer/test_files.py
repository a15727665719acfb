"""`predict_files` by import; tests/test_main.py has the command line's cases."""

import importlib.util
import pathlib

import numpy as np
import pytest
from PIL import Image

from zoo.data.images import read_image, read_mask, write_rgb
from zoo.infer import load_run, predict, predict_files

spec = importlib.util.spec_from_file_location(
    "trained", pathlib.Path(__file__).with_name("trained.py")
)
trained = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trained)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    trained.write(workdir)
    return load_run(workdir)


def test_files_hold_what_predict_gives(run, tmp_path):
    path = tmp_path / "a.png"
    write_rgb(path, np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8))
    ((given, ids),) = predict_files(run, [path], tmp_path / "out")
    assert (given, ids) == (path, tmp_path / "out" / "a.png")
    want = predict(run.model, run.variables, read_image(path, 3), preprocess=run.preprocess)
    np.testing.assert_array_equal(read_mask(ids), want)
    assert read_image(tmp_path / "out" / "a_overlay.png", 3).shape == (9, 11, 3)


def test_a_file_that_is_no_prediction_is_not_replaced(run, tmp_path):
    """As where the folder of true masks is given for `out`; an earlier prediction is."""
    (tmp_path / "in").mkdir()
    write_rgb(tmp_path / "in" / "a.png", np.zeros((4, 4, 3), np.uint8))
    # What Pillow writes, but does not read; what only a plug-in reads; what macOS leaves behind.
    for name in ("notes.pdf", "features.h5", "._a.png"):
        (tmp_path / "in" / name).write_bytes(b"no picture")
    list(predict_files(run, [tmp_path / "in"], tmp_path / "out"))
    list(predict_files(run, [tmp_path / "in"], tmp_path / "out"))
    for name in ("a.png", "a_overlay.png"):
        for mine in (Image.new("L", (4, 4)), Image.new("P", (4, 4))):
            mine.save(tmp_path / "out" / name)
            before = (tmp_path / "out" / name).read_bytes()
            with pytest.raises(ValueError, match=f"{name} is there, and no prediction"):
                predict_files(run, [tmp_path / "in"], tmp_path / "out")
            assert (tmp_path / "out" / name).read_bytes() == before
        (tmp_path / "out" / name).unlink()


def test_one_bad_picture_stops_all_before_a_file_is_written(run, tmp_path):
    write_rgb(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"b\.png cannot be read as a picture"):
        predict_files(run, [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
