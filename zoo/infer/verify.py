"""Whether two pictures show the same."""

from typing import Any

from zoo.data.images import File, read_image
from zoo.infer.embed import embed
from zoo.infer.load import Trained
from zoo.train.embedding import Embedding, pair_distances


def verify(run: Trained, a: File, b: File) -> dict[str, Any]:
    """Compares two picture files by the threshold where errors are nearest to equal in validation.

    Returns `distance` and `threshold` in one unit (Euclidean; minus the logit where the model
    judges pairs), `same`, whether the distance is at most the threshold, and `false_accept_rate`,
    the share of different pairs of the validation split that the threshold takes for the same.
    Raises ValueError for an unreadable picture, a run of another task, or a step never validated.
    """
    known = threshold(run)
    images = [read_image(path, run.info.channels) for path in (a, b)]
    x, y = embed(run.model, run.variables, images, preprocess=run.preprocess)
    distance = float(pair_distances(run.model, run.variables, x[None], y[None])[0])
    return {"distance": distance, "same": distance <= known["threshold"], **known}


def threshold(run: Trained) -> dict[str, float]:
    """`threshold` and `false_accept_rate` of `verify`, which names the errors."""
    run.check(Embedding)
    if (scores := run.validated()) is None:
        problem = f"{run.workdir} has no validation scores of step {run.step}, so no threshold"
        hint = "restore metrics.jsonl, use the best checkpoint, or train to the next evaluation"
        raise ValueError(f"{problem}; {hint}.")
    return {"threshold": scores["eer_threshold"], "false_accept_rate": scores["eer_threshold_far"]}
