"""What a launch does when its training is over: it draws, and says what it drew."""

import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.report import embedding, segmentation
from zoo.train import logs
from zoo.train.embedding import BoundEmbedding
from zoo.train.logs import Log
from zoo.train.run import Run
from zoo.train.segmentation import BoundSegmentation

# What is drawn of a run, by its task.
DRAW = {BoundSegmentation: segmentation.draw, BoundEmbedding: embedding.draw}


def finish(
    run: Run,
    variables: Mapping[str, Any],
    results: Any,
    found: Mapping[str, Any],
    workdir: pathlib.Path,
    log: Log,
) -> None:
    """Draws a finished run into the workdir's figures/ and TensorBoard; see `zoo.train.loop.train`.

    A task of one's own has none.
    """
    if type(run.task) not in DRAW:
        return
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    records = logs.read_metrics(workdir)
    picture, words = DRAW[type(run.task)](run, variables, results, records, folder)
    log.board.add_image(found["split"], picture, found["step"], dataformats="HWC")
    log.say(f"{words}\nPictures are in {folder}." if words else f"Pictures are in {folder}.")
