"""The command line as a user meets it."""

import json
import re

import pytest
from flax.traverse_util import flatten_dict

from experiments import checks, launch
from zoo.train import loop

SMALL = [
    "--set=model.width=4", "--set=model.depth=2", "--set=data.batch_size=8", "--set=steps=4",
    "--set=eval_every=4", "--set=checkpoint_every=2", "--set=log_every=2",
    "--set=data.options.train_scenes=16", "--set=data.options.validation_scenes=9",
    "--set=data.options.test_scenes=8",
]  # fmt: skip


def test_list_names_every_experiment_with_its_line(capsys):
    assert launch.main(["list"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == [
        "contrastive_digits", "embed_folder", "fcn16s_camvid", "fcn16s_digits", "fcn32s_camvid",
        "fcn32s_digits", "fcn8s_camvid", "fcn8s_digits", "patch_digits", "patch_isbi", "quickstart",
        "segment_folder", "siamese_digits", "siamese_faces", "tiramisu103_camvid",
        "tiramisu56_camvid", "tiramisu67_camvid", "tiramisu_digits", "triplet_all_digits",
        "triplet_digits", "triplet_faces", "triplet_mnist", "triplet_offline_digits",
        "triplet_omniglot", "unet_camvid", "unet_digits", "unet_isbi", "unet_pets", "unpool_camvid",
        "unpool_digits",
    ]  # fmt: skip
    assert all(len(line.split()) > 3 for line in out)


@pytest.mark.parametrize("name", launch.names())
def test_every_experiment_is_made_and_survives_json(name):
    from zoo.train import config

    experiment = launch.load(name).experiment()
    assert config.from_dict(json.loads(json.dumps(config.to_dict(experiment)))) == experiment


SAME = {  # By its docstring, all else is as in another experiment.
    name: found
    for name in launch.names()
    if (found := re.search(r"[Aa]ll (?:else|but)([^.;]*?)as\s+in (\w+)", launch.load(name).__doc__))
}


@pytest.mark.parametrize("name", SAME)
def test_all_else_is_as_the_docstring_says(name):
    """What may differ: what the file is about, a model or a loss, and what the sentence names."""
    from zoo.train import config

    words, base = SAME[name].groups()
    own, other = (
        flatten_dict(config.to_dict(launch.load(x).experiment()), sep=".") for x in (name, base)
    )
    free = ["model."]
    if other["task.class"].endswith("Embedding"):
        free.append("task.")
        if re.search("pairs|Triplets mined", launch.load(name).__doc__):
            free.append("data.batch_size")  # Counts these, not pictures.
    free += ["steps", "eval_every", "checkpoint_every"] * ("steps" in words)
    free += ["optimizer.learning_rate"] * ("learning rate" in words)
    differ = [x for x in own.keys() | other.keys() if own.get(x) != other.get(x)]
    assert differ and [x for x in differ if not x.startswith(tuple(free))] == []


def test_train_evaluate_and_resume(tmp_path, capsys):
    command = ["quickstart", "--workdir", str(tmp_path / "run"), *SMALL]
    assert launch.main(command) == 0
    out = capsys.readouterr()
    assert "python -m zoo predict" in out.out + out.err
    evaluate = [*command[:1], "evaluate", *command[1:], "--json"]
    assert launch.main([*evaluate, "--step", "latest", "--set=split=validation"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["step"], scores["split"], scores["pictures"]) == (4, "validation", 9)
    assert 0 <= scores["mean_iou"] <= 1 and len(scores["iou"]) == 11
    assert launch.main([*command, "--set=steps=6"]) == 0
    capsys.readouterr()
    assert launch.main([*evaluate, "--step=latest", "--set=steps=6"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 6
    assert launch.main([*evaluate, "--set=steps=6", "--set=split=train+validation"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 16 + 9


def test_dry_run_tells_and_writes_nothing(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert launch.main(["quickstart", "--workdir", str(workdir), *SMALL, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert '"width": 4' in out and "parameters" in out and "2.0 steps" in out
    assert "image float32[8, 64, 64, 3]" in out and "knows nothing: 2.3979" in out
    assert not workdir.exists()


@pytest.mark.parametrize("wrong", ["split=tests", "init_from=/no/where", "data.batch_size=13"])
def test_dry_run_refuses_what_a_launch_refuses(wrong, tmp_path, capsys):
    command = ["quickstart", "--workdir", str(tmp_path / "run"), *SMALL, f"--set={wrong}"]
    assert launch.main([*command, "--dry-run"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert launch.main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == told
    assert not (tmp_path / "run").exists()


def test_overfit_prints_as_it_goes_and_keeps_the_rate(monkeypatch, capsys):
    """From the first step on, without the warm-up; Ctrl-C leaves nothing that could go on."""
    rates = []

    class Interrupted(checks.Run):
        def __init__(self, experiment, layout):
            super().__init__(experiment, layout)
            take = self.train_step

            def step(state, batch):
                if len(rates) == 3:
                    raise KeyboardInterrupt
                rates.append(float(self.learning_rate(len(rates))))
                return take(state, batch)

            self.train_step = step

    monkeypatch.setattr(checks, "Run", Interrupted)
    command = ["quickstart", *SMALL, "--overfit=8", "--set=optimizer.warmup_steps=2"]
    assert launch.main(command) == 130
    captured = capsys.readouterr()
    assert [line.partition(":")[0] for line in captured.out.splitlines()] == ["step 1", "step 2"]
    assert captured.err.splitlines()[-1] == "Stopped."
    assert rates == [rates[0]] * 3


@pytest.mark.slow
def test_overfit_judges(tmp_path, capsys):
    command = ["quickstart", "--workdir", str(tmp_path / "run"), *SMALL, "--overfit=8"]
    assert launch.main(command) == 1
    assert "did NOT go to zero on 8 example(s)" in capsys.readouterr().out
    command += ["--set=steps=300", "--set=model.width=16"]
    assert launch.main(command) == 0
    assert "goes to zero on 8 example(s)" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_scores_that_are_no_numbers_are_json(capsys):
    launch.show({"loss": float("inf"), "iou": [0.5, float("nan")], "step": 2}, as_json=True)
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "loss": None, "iou": [0.5, None], "step": 2
    }  # fmt: skip


@pytest.mark.parametrize("how", ["jit", "pmap", "fsdp"])
def test_the_dispatcher_reaches_the_training(how, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        loop, "train", lambda name, experiment, workdir, layout, **_: seen.append(layout.how)
    )
    command = ["quickstart", "--workdir", str(tmp_path / "run"), f"--parallel={how}"]
    assert launch.main(command) == 0 and seen == [how]


@pytest.mark.slow
def test_overfit_learns_triplets_that_were_mined(tmp_path, capsys):
    """Of pictures that are all the same one the loss would be the margin for ever."""
    command = ["triplet_offline_digits", "--workdir", str(tmp_path / "run"), "--overfit=16"]
    assert launch.main(command) == 0
    assert "goes to zero on 16 example(s)" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


BAD = {
    "an unknown experiment": (["quikstart"], "did you mean quickstart?"),
    "an unknown field": (["--set=model.widht=4"], "width"),
    "a wrong type": (["--set=steps=many"], "'many'"),
    "an unknown split": (
        ["--set=split=tests"],
        "error: digit_scenes has no split 'tests' (nearest",
    ),
    "a missing folder": (
        ["unet_camvid", "--set=data.batch_size=8", "--set=data.path=/no/where"],
        "/no/where",
    ),
    "an unknown option": (["--set=data.options.train_scene=3"], "train_scenes"),
    "an unknown data set": (
        ["--set=data.name=digit_scene"],
        "(nearest: digit_scenes or digits8x8); give any name that TFDS knows; for a builder of ",
    ),
    "a batch that does not divide": (
        ["--set=data.batch_size=13"],
        "nearest that is divisible is 16",
    ),
    "a missing start": (
        ["--set=init_from=/no/where"],
        "init_from=/no/where (/no/where holds no checkpoints; train there first.); give a workdir, "
        ".safetensors or .pth.",
    ),
    "an empty start": (["--set=init_from="], "init_from must be a workdir or a file; got ''"),
    "a feature that is no picture": (["--set=data.image=name"], "an image must be uint8"),
    "an unknown gallery": (["triplet_digits", "--set=task.gallery=tset"], "has no split 'tset'"),
    "a dry run of what is trained": (
        ["quickstart", "evaluate", "--dry-run"],
        "leave out `evaluate`",
    ),
    "a trace of an evaluation": (["quickstart", "evaluate", "--profile"], "leave them out"),
    "a trace of a dry run": (["--dry-run", "--profile"], "--profile traces one run's training"),
    "an over-fit of nothing": (["--overfit=0"], "--overfit must be at least 1; got 0."),
    "a dry run of an over-fit": (["--dry-run", "--overfit=2"], "give one of them"),
    "a checkpoint to train from": (["--step=latest"], "--step is for evaluate"),
    "an over-fit on the device": (["--overfit=2", "--on-device"], "leave them out"),
    "a training as JSON": (["--json"], "--json is for evaluate"),
    "classes that differ": (["--set=model.num_classes=3"], "model.num_classes=11"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_touches_nothing(what, tmp_path, capsys):
    more, words = BAD[what]
    name = more if not more[0].startswith("--") else ["quickstart", *SMALL, *more]
    assert launch.main([*name, "--workdir", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0]
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_workdir_of_another_experiment_is_refused(tmp_path, capsys):
    workdir = str(tmp_path / "run")
    assert launch.main(["quickstart", "--workdir", workdir, *SMALL]) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.json*")}
    for more, words in (
        (["quickstart", *SMALL, "--set=model.width=8"], "model.width"),
        (["quickstart", *SMALL, "--set=seed=3"], "seed"),
        (["unet_digits", *SMALL], "quickstart"),
    ):
        assert launch.main([*more, "--workdir", workdir]) == 2
        assert words in capsys.readouterr().err
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.json*")} == before


def test_an_unwritable_workdir_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert launch.main(["quickstart", *SMALL, "--workdir", str(tmp_path / "file" / "run")]) == 2
    errors = capsys.readouterr().err
    assert (
        f"The checkpoints in {tmp_path / 'file' / 'run' / 'checkpoints'} cannot be written"
        in errors
    )
    assert (tmp_path / "file").read_text() == "mine"


def test_evaluate_without_a_run_says_so(tmp_path, capsys):
    assert launch.main(["quickstart", "evaluate", "--workdir", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def test_traceback_shows_where(tmp_path):
    with pytest.raises(ValueError, match="batch_size"):
        launch.main(["quickstart", *SMALL, "--set=data.batch_size=13", "--traceback"])
