"""What a launch does when its training is over: figures, a TensorBoard picture, report.html."""

import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import embedding, facts, figures, page, segmentation
from zoo.train import config, logs
from zoo.train.embedding import BoundEmbedding
from zoo.train.logs import Log
from zoo.train.run import Run
from zoo.train.segmentation import BoundSegmentation

REPORT = "report.html"
# What is drawn of a run, by its task.
DRAW = {BoundSegmentation: segmentation.draw, BoundEmbedding: embedding.draw}


def attempt(*ended: Any) -> None:
    """As `write`, which it takes the arguments of; a failure there is only printed.

    The scores and checkpoints are kept by then, and a full disk must not look like a lost training.
    """
    *_, log = ended
    try:
        write(*ended)
    except Exception as error:  # noqa: BLE001  Fonts, decoders, disks: anything may fail.
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = "launch again to write it, with --traceback to see where it stops"
        log.say(f"Warning: the report could not be written ({what}). All else is kept; {hint}.")


def write(
    run: Run,
    variables: Mapping[str, Any],
    results: Any,
    found: Mapping[str, Any],
    workdir: pathlib.Path,
    log: Log,
) -> None:
    """Draws a finished run and writes its report.html; see `finish` of `zoo.train.loop.train`.

    A relaunch of a finished workdir draws and writes all anew. Raises whatever goes wrong.
    """
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    records = logs.read_metrics(workdir)
    figures.curves(records, folder / "curves.png", score=run.task.headline)
    draw = DRAW.get(type(run.task), sentence_only)
    picture, part = draw(run, variables, results, found, folder)
    if picture is not None:
        from tensorboardX.summary import image  # Imports PyTorch where it is: seconds.

        log.show(found["step"], summary=image(found["split"], picture, dataformats="HWC"))
    fields = json.loads((workdir / config.FILE).read_text(encoding="utf-8"))
    command, environment = facts.environment(workdir)
    scores = {k: v for k, v in found.items() if isinstance(v, int | float) and k != "step"}
    values = {
        "title": fields["name"],
        "best": f"Step {found['step']} of {run.experiment.steps}, the best on "
        f"{run.experiment.data.validation_split}.",
        "part": part,
        "curves": upright_curves(records, run.task.headline),
        "scores": page.Table(
            "Scores", ["score", "value"],
            [[k, f"{v:,}" if isinstance(v, int) else page.number(v)] for k, v in scores.items()],
        ),
        "command": command,
        "tables": [facts.data(run), facts.cost(run, records), environment],
        "fields": json.dumps(fields, indent=2, ensure_ascii=False),
    }  # fmt: skip
    page.write("report.html.j2", workdir / REPORT, **values)
    log.say("\n".join(filter(None, [part.remark, f"The report is {workdir / REPORT}."])))


def upright_curves(records: Sequence[Mapping[str, Any]], score: str) -> page.Figure:
    """Loss above score: beside one another a phone could not show them legibly."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "curves.png"
        figures.curves(records, path, score=score, upright=True)
        return page.figure(path, "Curves", "Loss, and below it the score, over the steps.")


def sentence_only(run, variables, results, found, folder) -> tuple[None, page.Part]:
    """Of a task of one's own."""
    sentence = f"{run.task.headline} is {found[run.task.headline]:.4f} on {found['split']}."
    return None, page.Part(sentence, [])
