import numpy as np
import pytest
from PIL import Image

from experiments.datasets import OrlFaces
from zoo.data import open_labelled

SPLITS = ("train", "validation", "test")


@pytest.fixture
def folder(tmp_path):
    """Persons s1, s2, s10, s11 with pictures 1, 2, 10 of their numbers' values."""
    for person in (1, 2, 10, 11):
        place = tmp_path / "orl" / f"s{person}"
        place.mkdir(parents=True)
        for number in (1, 2, 10):
            pixels = np.full((4, 3), 16 * person + number, np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.pgm")
    return tmp_path / "orl"


def opened(folder, split="train", **options):
    chosen = {"validation_persons": "2", "test_persons": "10-11"} | options
    return open_labelled(OrlFaces.name, split, path=str(folder), options=chosen)


def test_the_real_faces_are_split_by_person(shared_data):
    path = shared_data / "orl_faces"
    sources = [open_labelled(OrlFaces.name, split, path=str(path)) for split in SPLITS]
    assert [len(s) for s in sources] == [160, 40, 80]  # s3-s18, s19-s22, s23-s30.
    assert sum(len(s) for s in sources) == 280
    for source, persons in zip(sources, (range(3, 19), range(19, 23), range(23, 31)), strict=True):
        want = [(f"s{person}", number) for person in persons for number in range(1, 11)]
        assert [e["name"] for e in source] == [f"{p}/{n}.pgm" for p, n in want]
        assert [source.info.class_names[k] for k in source.labels] == [p for p, _ in want]
        for example in source:
            pixels = np.asarray(Image.open(path / example["name"]))
            assert pixels.shape == (112, 92)
            np.testing.assert_array_equal(example["image"][..., 0], pixels)
    assert sources[0].info.num_classes == 28
    assert np.unique(np.concatenate([s.labels for s in sources])).tolist() == list(range(28))
    pixels = np.stack([e["image"] for source in sources for e in source]) / 255
    assert pixels.mean() == pytest.approx(sources[0].info.mean[0], abs=5e-4)
    assert pixels.std() == pytest.approx(sources[0].info.std[0], abs=5e-4)


def test_persons_and_pictures_count_by_their_numbers(folder):
    assert [e["name"] for e in opened(folder)] == ["s1/1.pgm", "s1/2.pgm", "s1/10.pgm"]
    test = opened(folder, "test")
    assert test.labels.tolist() == [2] * 3 + [3] * 3
    assert int(test[4]["image"].max()) == 16 * 11 + 2
    assert opened(folder, validation_persons="").splits == ("train", "test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_persons": "10-12"}, "test_persons names 's12'.*there are s1, s2, s10, s11"),
        ({"test_persons": "2,10"}, "names 's2', which is chosen already"),
        ({"test_persons": "1,10,11"}, "leave nothing to train with"),
        ({"test_persons": "s10"}, "test_persons='s10' is no list of numbers"),
    ],
)
def test_bad_persons_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        opened(folder, **options)


def test_a_person_with_one_picture_is_refused(folder):
    for number in (1, 2):
        (folder / "s10" / f"{number}.pgm").unlink()
    with pytest.raises(ValueError, match="s10, a class of 1 picture.*take the folder away"):
        opened(folder)


def test_a_damaged_picture_is_named(folder):
    file = folder / "s1" / "2.pgm"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match="s1/2.pgm cannot be read as a picture"):
        opened(folder)
