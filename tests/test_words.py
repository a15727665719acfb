"""The pages: every example runs, every table is whole, every link leads somewhere."""

import importlib
import importlib.util
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo.losses
from experiments import launch
from zoo import metrics
from zoo.data import Info
from zoo.train.segmentation import Segmentation

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (
    "README.md", "zoo/README.md", "experiments/README.md", "experiments/RESULTS.md",
    "tests/CONTRIBUTING.md", "colab/README.md",
)  # fmt: skip
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", TEXT[page], re.MULTILINE | re.DOTALL)


def section(page: str, title: str) -> str:
    _, _, rest = TEXT[page].partition(f"\n## {title}\n")
    assert rest, f"{page} has no section {title!r}"
    return rest.partition("\n## ")[0]


def imported(path: pathlib.Path):
    """A file as a module of its own, by its path; experiment.json finds its classes by its name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """CONTRIBUTING's parts by file name; the experiment alone is not imported yet."""
    folder, found = tmp_path_factory.mktemp("recipes"), {}
    for source in blocks("tests/CONTRIBUTING.md"):
        path = folder / re.match(r"# \S+/(\w+\.py)\n", source)[1]
        path.write_text(source)
        if path.stem != "tiny_stripes":
            found[path.stem] = imported(path)
    return {**found, "tiny_stripes": folder / "tiny_stripes.py"}


@pytest.mark.parametrize(
    "page", [pytest.param("zoo/README.md", marks=pytest.mark.slow), "experiments/README.md"]
)
def test_every_example_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert blocks(page)
    for number, source in enumerate(blocks(page)):
        # Each by itself, as a reader copies it.
        exec(compile(source, f"{page}, example {number}", "exec"), {"__name__": "example"})


@pytest.mark.slow
def test_the_examples_of_the_first_page_run(trained, tmp_path, monkeypatch):
    """One after the other, as a session: the later ones go on with what the earlier imported."""
    monkeypatch.chdir(tmp_path)
    trained.write(pathlib.Path("runs/quickstart"))
    names = {"__name__": "example"}
    assert len(blocks("README.md")) == 2
    for number, source in enumerate(blocks("README.md")):
        exec(compile(source, f"README.md, example {number}", "exec"), names)
    assert names["image"].shape == (64, 64, 3) and names["image"].dtype == np.uint8
    assert names["ids"].shape == (64, 64) and set(np.unique(names["ids"])) <= {0, 1, 2}
    assert 0 < names["active"] < 1 and 0 <= names["recall"] <= 1


@pytest.mark.parametrize("page", PAGES)
def test_every_table_is_whole(page):
    """As many cells in each row as its heading has; a bar within a cell is written \\|."""
    text, found = re.sub(r"^```.*?^```", "", TEXT[page], flags=re.M | re.S), 0
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in table.splitlines()]
        found += 1
        assert all(set(cell.strip()) <= {"-", ":"} for cell in rows[1]), table
        assert {len(row) for row in rows} == {len(rows[0])}, table
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)
    assert found or not lines


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", TEXT[page]):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} points to {target}"


def test_the_table_of_experiments_says_what_launch_list_prints():
    table = section("experiments/README.md", "All experiments")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    first = {name: launch.load(name).__doc__.splitlines()[0] for name in launch.names()}
    assert rows == first and list(rows) == list(first)


def test_zoo_tells_of_every_model_and_loss():
    for package in ("zoo.models", "zoo.losses"):
        for name in importlib.import_module(package).__all__:
            if not name.endswith("_mask"):
                assert f"`{name}" in TEXT["zoo/README.md"].replace(
                    "`67`, `103`", "`FCDenseNet67`, `FCDenseNet103`"
                ), name


def test_every_score_is_explained():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(40, 3)), np.tile(np.arange(4), 10)
    picture = rng.integers(2, size=(8, 8))
    scores = {
        **metrics.segmentation_scores(np.eye(2, dtype=int)),
        **metrics.boundary_scores(picture, picture, 2, 255, 0.1),
        **metrics.membrane_scores(picture, picture, 0, 255),
        **metrics.retrieval_scores(points, labels),
        **metrics.verification_scores(points[:, 0], labels == 0),
        **metrics.within_group_runs(
            points, labels, np.zeros(40, int), np.repeat(np.arange(10), 4), rng, ways=4
        ),
    }
    told = re.findall(r"`([a-z_0-9.]+)`", section("zoo/README.md", "Scores"))
    assert len(scores) > 30 and set(scores) - set(told) == set()


def resolve(root, dotted: str) -> None:
    for name in dotted.split("."):
        root = getattr(root, name)


@pytest.mark.parametrize("library", ["segmentation_models_pytorch", "pytorch_metric_learning"])
def test_the_names_of_torch_libraries_are_theirs(library, peer):
    title = (
        library.replace("models_", "models.") if "models" in library else library.replace("_", "-")
    )
    rows = TEXT["zoo/README.md"].split(f"### Coming from {title}")[1].split("\n###")[0]
    module, names = (
        peer(library),
        re.findall(r"`((?:losses|miners|distances|reducers|metrics)\.\w+)", rows),
    )
    for part in {name.split(".")[0] for name in names}:
        importlib.import_module(f"{library}.{part}")
    assert len(names) >= 7
    for name in names:
        resolve(module, name)


def test_the_names_of_keras_are_theirs_and_its_alpha_is_our_beta(keras):
    rows = TEXT["zoo/README.md"].split("### Coming from Keras")[1]
    names = re.findall(r"`((?:losses|metrics|layers)\.\w+)", rows)
    assert len(names) == 7
    for name in names:
        resolve(keras, name)
    from zoo.losses import overlap_loss, overlap_sums

    logits = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype(np.float32)
    labels = np.random.default_rng(1).integers(2, size=(1, 4, 4))
    ours, _ = overlap_loss(overlap_sums(logits, labels), alpha=0.2, beta=0.9)
    p = np.asarray(jax.nn.softmax(logits))[..., 1]
    theirs = keras.losses.tversky((labels == 1).astype(np.float32), p, alpha=0.9, beta=0.2)
    np.testing.assert_allclose(ours[0, 1], theirs, rtol=1e-5)


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        ("test_logits_have_the_size_of_the_input", {"size": (1, 7)}),
        ("test_one_class_is_refused", {"num_classes": 1}),
        ("test_unknown_dtype_is_refused", {}),
        ("test_model_is_its_own_configuration", {}),
        pytest.param("test_every_parameter_learns", {}, marks=pytest.mark.slow),
        ("test_bfloat16_is_used_and_is_near", {}),
        ("test_one_trace_a_shape", {}),
        ("test_no_pixel_sees_beyond_the_halo", {}),
        pytest.param("test_tiles_with_a_halo_equal_the_whole", {}, marks=pytest.mark.slow),
        ("test_statistics_move_in_training_alone", {}),
        pytest.param("test_loss_halves_in_30_steps", {}, marks=pytest.mark.slow),
    ],
)
def test_the_recipe_of_a_model_keeps_the_contract(recipes, contract, check, arguments):
    contract.MODELS["recipe"] = (recipes["tiny"].Tiny, {"width": 4})
    getattr(contract, check)("recipe", **arguments)


@pytest.fixture(scope="module")
def trained():
    return imported(ROOT / "tests" / "infer" / "trained.py")


@pytest.fixture(scope="module")
def contract():
    return imported(ROOT / "tests" / "models" / "test_contract.py")


def test_the_recipe_of_a_loss_is_a_loss(recipes):
    huber, rng = recipes["huber_pairs"].huber_pairs, np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9, 3)).astype(np.float32)
    y[:6] = x[:6] + np.linspace(0, 0.8, 6, dtype=np.float32)[:, None]
    same, valid = np.arange(9) % 2 == 0, np.arange(9) != 8
    x[8] = np.nan
    d = np.sqrt(np.square(x.astype(np.float64) - y).sum(1))
    r = np.where(same, d, np.maximum(1.2 - d, 0))[:8]
    want = [v * v / 2 if v <= 0.5 else 0.5 * (v - 0.25) for v in r]
    take = {"margin": 1.2, "valid": valid}
    values, weights = huber(x, y, same, **take)
    np.testing.assert_allclose(values, [*want, 0], rtol=1e-5)
    assert (weights == valid).all() and (0 < r).any() and (r <= 0.5).any() and (r > 0.5).any()
    assert np.isfinite(jax.grad(lambda x: huber(x, y, same, **take)[0].sum())(x)).all()
    with pytest.raises(ValueError, match="one \\[b, d\\]"):
        huber(x, jnp.zeros((5, 3)), same)


def test_the_recipe_of_a_loss_is_found_by_its_name(recipes, monkeypatch, capsys):
    monkeypatch.setattr(
        zoo.losses, "huber_pairs", recipes["huber_pairs"].huber_pairs, raising=False
    )
    own = ["--set", "task.loss=huber_pairs", "--set", "task.options={'delta': 0.3}"]
    assert launch.main(["contrastive_digits", "--dry-run", *own]) == 0
    assert "huber_pairs" in capsys.readouterr().out


def test_a_loss_of_pixels_is_found_by_its_name(monkeypatch):
    def squared(logits, labels, *, ignore_label=255):
        missed = 1 - jnp.take_along_axis(jax.nn.softmax(logits), labels[..., None], axis=-1)[..., 0]
        return missed**2, jnp.ones_like(missed)

    with pytest.raises(ValueError, match="'squared' is no loss of pixels"):
        Segmentation(region="squared")
    monkeypatch.setattr(zoo.losses, "squared", squared, raising=False)
    info = Info("two", 2, ("a", "b"))
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 3, 4, 2)), rng.integers(2, size=(2, 3, 4))
    batch = {"label": labels, "weight": np.ones(2), "image": np.zeros((2, 3, 4, 1))}
    plain, both = (
        Segmentation(region=name, region_weight=0.5).bind(info).loss(jnp.asarray(logits), batch)
        for name in ("none", "squared")
    )
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    own = np.square(1 - np.take_along_axis(p, labels[..., None], -1)[..., 0]).mean((1, 2))
    np.testing.assert_allclose(
        both[0] - plain[0], np.broadcast_to(0.5 * own[:, None, None], (2, 3, 4)), atol=1e-5
    )


@pytest.mark.slow
def test_the_recipe_of_a_model_data_set_and_experiment_train(recipes, tmp_path):
    from experiments import overrides
    from zoo.train import config, loop
    from zoo.train.parallel import Layout

    names = {"Tiny": recipes["tiny"].Tiny, "Stripes": recipes["stripes"].Stripes}
    exec(recipes["tiny_stripes"].read_text(), names)
    small = ["steps=2", "model.width=4", "eval_every=2", "checkpoint_every=2", "log_every=1"]
    experiment = overrides.apply(names["experiment"](), small)
    assert config.from_dict(config.to_dict(experiment)) == experiment
    loop.train("tiny_stripes", experiment, tmp_path / "run", Layout("jit"))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert any('"mean_iou"' in line for line in lines)
