"""What is planned for a folder, its reasons, and that the user's --set and a begun run win."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments import embed_folder, launch, plan, quickstart, segment_folder
from zoo.data.info import Info
from zoo.train import config, loop
from zoo.train.parallel import Layout


def picture(seed, size):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of 40x33 px and masks of 0 and 255; the median counts, so two are larger."""
    for name in ("images", "masks"):
        (tmp_path / "own" / name).mkdir(parents=True)
    for i in range(10):
        size = (60, 50) if i in (2, 3) else (40, 33)
        picture(i, size).save(tmp_path / "own" / "images" / f"p{i}.png")
        label = np.zeros(size[::-1], np.uint8)
        label[4:20, 5 + i : 20 + i] = 255
        Image.fromarray(label).save(tmp_path / "own" / "masks" / f"p{i}.png")
    return tmp_path / "own"


def made(module, folder, *given, workdir="/nowhere"):
    return plan.planned(module, [f"data.path={folder}", *given], pathlib.Path(workdir))


def test_a_u_net_is_planned_from_the_pictures(folder):
    experiment, files, lines = made(segment_folder, folder)
    assert experiment.model.num_classes == 2 and experiment.data.options["channels"] == 3
    # 33 px halved twice leave 8, thrice 4. 33 and 40 in steps of 4. Of the field of two levels,
    # 47 px, 2x15 px are covered, but not of that of one, 19.
    assert experiment.model.depth == 2 and experiment.data.crop == (32, 40)
    facts = json.loads(files["dataset.json"])
    train = len(facts["splits"]["train"])
    # conftest gives 8 devices, of which each needs a picture.
    assert experiment.data.batch_size == 8 and experiment.data.size is None
    wanted = np.ceil(60 * train * (33 * 40) / (32 * 40) / 8)
    assert experiment.steps == max(wanted, plan.FEWEST)
    assert experiment.optimizer.warmup_steps == experiment.steps // 20
    text = "\n".join(lines)
    for words in ("10 RGB pictures of 40x33 to 60x50 px", "0 -> 0 class 0", "255 -> 1 class 255",
                  "data.crop=(32, 40)", "the median picture, 40x33", f"train {train}"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(("side", "depth"), [(4, 1), (9, 1), (10, 2), (23, 2), (24, 3), (60, 4)])
def test_the_field_is_of_two_objects(side, depth, tmp_path):
    """U-Net's fields are 19, 47, 103 and 215 px, by hand; each level adds 7 * 2**n px or so."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(6):
        picture(i, (200, 160)).save(tmp_path / "images" / f"{i}.png")
        label = np.zeros((160, 200), np.uint8)
        label[10 : 10 + side, 20 : 20 + side] = label[10 : 10 + side, 27 + side : 27 + 2 * side] = 1
        Image.fromarray(label).save(tmp_path / "masks" / f"{i}.png")
    experiment, files, lines = made(segment_folder, tmp_path)
    assert json.loads(files["dataset.json"])["spacing"] == {"object": side, "gap": 7}
    assert experiment.model.depth == depth
    assert any(
        f"nine of ten objects are within {side} px and have 7 px between" in n for n in lines
    )


@pytest.mark.parametrize(("gap", "told"), [(280.0, "280 px"), (1234.5, "1234.5 px")])
def test_a_wide_gap_is_told_in_whole_and_not_as_seen(gap, told):
    depth, why = plan._depth(segment_folder.experiment().model, 2000, 20.0, gap)
    assert depth == 2
    assert f"within 20 px and have {told} between them: a field of 47 px spans two obj" in why
    depth, why = plan._depth(segment_folder.experiment().model, 2000, 1100.0, gap)
    assert depth == 4 and "within 1100 px" in why and "215 px is the widest they allow" in why


def test_a_class_of_nearly_all_pixels_is_told_in_per_cent(folder):
    for file in (folder / "masks").iterdir():
        with Image.open(file) as image:
            label = np.zeros_like(image)
        label[0, 0] = 255
        Image.fromarray(label).save(file)
    lines = made(segment_folder, folder)[2]
    assert any("0 class 0 (99.9 %), 255 -> 1 class 255 (0.0" in line for line in lines)


def test_a_container_may_have_less_memory_than_its_host(tmp_path, monkeypatch):
    files = [tmp_path / "max", tmp_path / "none"]
    monkeypatch.setattr(plan, "CGROUPS", tuple(map(str, files)))
    files[0].write_text("max\n")
    whole = plan._memory()
    files[0].write_text(f"{2**20}\n")
    assert plan._memory() == 2**18 < whole
    files[0].write_text(f"{2**62}\n")  # Version 1 without a limit.
    assert plan._memory() == whole


def test_what_is_set_wins_and_is_planned_around(folder):
    given = ("model.depth=1", "data.batch_size=16", "steps=77", "model.width=8")
    experiment, _, lines = made(segment_folder, folder, *given)
    assert (experiment.model.depth, experiment.data.batch_size) == (1, 16)
    assert (experiment.steps, experiment.model.width) == (77, 8)
    assert experiment.data.crop == (32, 40) and experiment.eval_every == 77 // 8
    assert not any(line.strip().startswith(("model.depth", "steps=")) for line in lines)
    assert any("in steps of 2" in line for line in lines)


def test_little_memory_makes_batches_and_pictures_small(folder, monkeypatch):
    monkeypatch.setattr(plan.jax, "device_count", lambda: 1)
    experiment, files, _ = made(segment_folder, folder)
    assert (
        experiment.data.batch_size == len(json.loads(files["dataset.json"])["splits"]["train"]) // 2
    )
    need = 16 * max(plan.TRAINED * 32 * 40, plan.SCORED * 50 * 60)
    monkeypatch.setattr(plan, "_memory", lambda: 2.5 * need)
    assert made(segment_folder, folder)[0].data.batch_size == 2
    monkeypatch.setattr(plan, "_memory", lambda: 16 * plan.SCORED * 25 * 30)
    experiment, _, lines = made(segment_folder, folder)
    assert experiment.data.size == (25, 30) and max(experiment.data.crop) <= 30
    assert any("does not fit" in line for line in lines)
    assert any("within 8 px: a field of 19 px spans two objects' length" in line for line in lines)


def test_the_largest_picture_is_a_real_one(tmp_path, monkeypatch):
    """Of two shapes of as many pixels the commoner; the batch holds for either."""
    monkeypatch.setattr(plan.jax, "device_count", lambda: 1)
    for i in range(10):
        for name in ("images", "masks"):
            (tmp_path / name).mkdir(exist_ok=True)
        size = (45, 60) if i < 4 else (60, 45)
        picture(i, size).save(tmp_path / "images" / f"{i}.png")
        label = np.zeros(size[::-1], np.uint8)
        label[4:20, 5 : 20 + i] = 255
        Image.fromarray(label).save(tmp_path / "masks" / f"{i}.png")
    shapes = "6 are wider than high and 4 higher than wide"
    experiment, files, lines = made(segment_folder, tmp_path)
    assert json.loads(files["dataset.json"])["sizes"]["largest"] == [45, 60]
    assert f"10 RGB pictures of 45x60 to 60x45 px, of which {shapes}; " in lines[0]
    assert experiment.data.size is None and shapes not in "".join(lines[1:])
    monkeypatch.setattr(plan, "_memory", lambda: 16 * plan.SCORED * 45 * 60 / 4)
    experiment, _, lines = made(segment_folder, tmp_path)
    assert experiment.data.size == (22, 30) and experiment.data.batch_size == 1
    (why,) = [line for line in lines if "data.size" in line]
    assert "the largest picture, 60x45, does not fit" in why
    assert f"; {shapes}, and all get this shape" in why


def test_other_experiments_are_as_they_stand(tmp_path):
    experiment, files, lines = plan.planned(quickstart, ["steps=3"], tmp_path)
    assert experiment.steps == 3 and not files and not lines


def test_a_begun_run_goes_on_as_it_was_planned(folder, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    first, files, _ = made(segment_folder, folder, "seed=3", workdir=workdir)
    config.write_experiment(workdir, "segment_folder", first, Info("own", 2, ("a", "b")))
    (workdir / "dataset.json").write_bytes(files["dataset.json"])
    # Rules that have changed meanwhile ...
    monkeypatch.setitem(plan.MOST, "cpu", plan.Most(16, 16, 2, 1000, 9))
    monkeypatch.setattr(plan, "_memory", lambda: 1e5)  # ... or another machine.
    again, files, lines = made(segment_folder, folder, workdir=workdir)
    assert again == first and not files and "goes on as planned" in lines[-1]
    assert made(segment_folder, folder, "steps=9000", workdir=workdir)[0].steps == 9000
    picture(99, (40, 33)).save(folder / "images" / "new.png")
    Image.fromarray(np.zeros((33, 40), np.uint8)).save(folder / "masks" / "new.png")
    with pytest.raises(ValueError, match=r"is not what .*run was trained on: pictures, .*splits"):
        made(segment_folder, folder, workdir=workdir)


def test_an_evaluation_is_of_the_data_that_were_trained_on(folder, tmp_path, monkeypatch, capsys):
    """Or of another folder, given on purpose."""
    monkeypatch.setattr("zoo.train.loop.evaluate", lambda experiment, *_, **__: {"scored": 1})
    workdir = tmp_path / "run"
    first, files, _ = made(segment_folder, folder, workdir=workdir)
    config.write_experiment(workdir, "segment_folder", first, Info("own", 2, ("a", "b")))
    (workdir / "dataset.json").write_bytes(files["dataset.json"])
    evaluate = ["segment_folder", "evaluate", "--workdir", str(workdir)]
    assert launch.main(evaluate) == 0
    # As VOC has it: its lists decide, and move a picture that was trained.
    shutil.copytree(folder, tmp_path / "before")
    splits = json.loads(files["dataset.json"])["splits"]
    splits["validation"].append(splits["train"].pop())
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, names in splits.items():
        stems = [pathlib.Path(name).stem for name in names]
        (lists / f"{split}.txt").write_text("\n".join(stems))
    capsys.readouterr()
    for given in ([], [f"--set=data.path={folder}/"]):
        assert launch.main([*evaluate, *given]) == 2
        error = capsys.readouterr().err
        assert "run was trained on: " in error and "splits changed" in error
    assert launch.main([*evaluate, f"--set=data.path={tmp_path / 'before'}"]) == 0
    assert "scored: 1" in capsys.readouterr().out


def test_a_run_is_scored_on_another_folder(folder, tmp_path, capsys):
    """Of grey pictures though it was trained in colour, but of the same classes."""
    other, workdir = tmp_path / "other", tmp_path / "run"
    shutil.copytree(folder, other)
    for file in (other / "images").iterdir():
        with Image.open(file) as image:
            image.convert("L").save(file)
    for file in (folder / "masks").iterdir():
        with Image.open(file) as image:
            label = np.array(image)
        label[24:30, 5:15] = 100
        Image.fromarray(label).save(file)
    small = "model.width=2", "model.depth=1", "steps=1", "optimizer.warmup_steps=0"
    loop.train("segment_folder", made(segment_folder, folder, *small)[0], workdir, Layout())
    evaluate = ["segment_folder", "evaluate", "--workdir", str(workdir), f"--set=data.path={other}"]
    capsys.readouterr()
    assert launch.main(evaluate) == 2
    error = capsys.readouterr().err
    assert "trained on the classes class 0, class 100, class 255, and the data hold" in error
    assert "list all classes in the classes.csv" in error
    (other / "classes.csv").write_text("class 0,0\nclass 100,100\nclass 255,255\n")
    assert launch.main([*evaluate, "--set=split=train+validation"]) == 0
    assert "pictures: 10" in capsys.readouterr().out


def classes(root, count, pictures=6):
    for c in range(count):
        (root / f"class{c}").mkdir(parents=True)
        for i in range(pictures):
            picture(100 * c + i, (90, 60)).convert("L").save(root / f"class{c}" / f"{i}.png")
    return root


def test_classes_are_held_out_where_they_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.jax, "device_count", lambda: 1)
    experiment, files, lines = made(embed_folder, classes(tmp_path, 30))
    facts = json.loads(files["dataset.json"])
    held = [{name.split("/")[0] for name in names} for names in facts["splits"].values()]
    assert len(held) == 3 and not held[0] & held[1] and sum(map(len, held)) == 30
    assert experiment.data.options["channels"] == 1 and experiment.data.size == (43, 64)
    assert experiment.task.images_per_class == 4
    assert experiment.data.batch_size == 4 * min(16, len(held[0]))
    assert any("30 classes are enough" in line for line in lines)
    assert facts["sizes"] == {"smallest": [60, 90], "median": [60, 90], "largest": [60, 90]}
    assert (facts["channels"], facts["pictures"]) == (1, 180)
    assert "180 pictures in 180 groups" in facts["split_rule"]
    monkeypatch.setattr(plan, "_memory", lambda: 16 * plan.EMBEDDED * 43 * 64 * 4 * 3.5)
    assert made(embed_folder, tmp_path)[0].data.batch_size == 4 * 3


def test_pictures_are_held_out_of_few_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.jax, "device_count", lambda: 1)
    experiment, files, _ = made(embed_folder, classes(tmp_path, 3))
    assert set(json.loads(files["dataset.json"])["splits"]) == {"train", "validation"}
    assert experiment.data.options["split_by"] == "example"
    assert experiment.data.batch_size == 3 * experiment.task.images_per_class


def test_a_shape_for_pictures_of_two_is_told(tmp_path):
    """90x60 px, and three of a class upright."""
    classes(tmp_path, 3)
    for file in tmp_path.glob("*/[345].png"):
        with Image.open(file) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(file)
    experiment, files, lines = made(embed_folder, tmp_path)
    sizes = json.loads(files["dataset.json"])["sizes"]
    assert sizes == {"smallest": [60, 90], "median": [75, 75], "largest": [60, 90]}
    assert "18 grey pictures of 90x60 px, of which 9 are wider than high and 9 higher" in lines[0]
    (why,) = [line for line in lines if "data.size" in line]
    assert experiment.data.size == (64, 64) and why.endswith("wide, and all get this shape")


def test_splits_of_class_folders_are_kept(tmp_path):
    classes(tmp_path / "train", 4)
    classes(tmp_path / "val", 2, pictures=3)
    experiment, files, lines = made(embed_folder, tmp_path)
    facts = json.loads(files["dataset.json"])
    assert {s: len(names) for s, names in facts["splits"].items()} == {"train": 24, "validation": 6}
    assert all(name.startswith("val/") for name in facts["splits"]["validation"])
    assert len(facts["classes"]) == 4 and "as the folders give it" in lines[1]
    assert "split_by" not in experiment.data.options
    classes(tmp_path / "other", 2)
    (tmp_path / "train" / "class0" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="other lies beside folders of splits"):
        made(embed_folder, tmp_path)


def test_groups_and_damage_are_told_before_anything_is_made(tmp_path):
    classes(tmp_path, 3)
    with pytest.raises(ValueError, match=r"18 pictures are 1 group\(s\)"):
        made(embed_folder, tmp_path, "data.options.group=png")
    (tmp_path / "class1" / "2.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"class1/2.png cannot be read .*copy or download it"):
        made(embed_folder, tmp_path)


@pytest.mark.parametrize("name", ["segment_folder", "embed_folder"])
def test_bad_folders_are_one_line_and_touch_nothing(name, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for given, words in (
        (f"data.path={tmp_path / 'empty'}", "holds no"),
        ("seed=1", "data.path=DIR"),
    ):
        command = [name, "--workdir", str(tmp_path / "run"), "--set", given]
        assert launch.main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_from_a_folder_to_a_resumed_run(folder, tmp_path, capsys):
    command = ["segment_folder", f"--set=data.path={folder}", "--workdir", str(tmp_path / "run"),
               "--set=model.width=4", "--set=steps=3"]  # fmt: skip
    before = {f: f.read_bytes() for f in folder.rglob("*.png")}
    assert launch.main(command) == 0
    told = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert told["mapping"] == {"0": 0, "255": 1}
    assert "planned" in capsys.readouterr().out
    # Without the folder and the settings: experiment.json knows them.
    assert launch.main(["segment_folder", "--workdir", str(tmp_path / "run"), "--set=steps=4"]) == 0
    assert "from step 3 of 4" in "".join(capsys.readouterr())
    assert {f: f.read_bytes() for f in folder.rglob("*.png")} == before


def test_an_option_by_its_short_name_is_planned_around(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.jax, "device_count", lambda: 1)
    experiment, files, lines = made(embed_folder, classes(tmp_path, 30), "data.split_by=example")
    assert experiment.data.options["split_by"] == "example"
    assert not any("split_by" in line for line in lines)
    train = json.loads(files["dataset.json"])["splits"]["train"]
    assert len({name.split("/")[0] for name in train}) == 30


def test_what_changes_in_words_alone_does_not_hinder_a_run(tmp_path):
    workdir, root = tmp_path / "run", classes(tmp_path / "own", 3)
    first, files, _ = made(embed_folder, root, workdir=workdir)
    config.write_experiment(workdir, "embed_folder", first, Info("own", 3, ("a", "b", "c")))
    (workdir / "dataset.json").write_bytes(files["dataset.json"])
    (root / "Thumbs.db").write_bytes(b"x")
    assert made(embed_folder, root, workdir=workdir)[0] == first


def test_a_batch_of_classes_falls_on_the_devices(tmp_path):
    """conftest gives 8: of five classes four of four pictures do, eight would be too many."""
    experiment, _, _ = made(embed_folder, classes(tmp_path, 5))
    assert (experiment.task.images_per_class, experiment.data.batch_size) == (4, 16)


@pytest.mark.parametrize("where", [".", "run", "images/run"])
def test_a_workdir_within_the_data_is_refused(folder, where):
    """Its figures would be pictures without masks when it is launched again."""
    with pytest.raises(ValueError, match="lies in the folder of data, .*choose another --workdir"):
        made(segment_folder, folder, workdir=folder / where)
