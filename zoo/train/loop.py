"""Training and evaluation, from an experiment to a workdir full of results.

batch(seed, step) -> step -> log, evaluation, checkpoint. A relaunch of the same workdir goes on
from the latest checkpoint, bit for bit as if it had never stopped.
"""

import contextlib
import pathlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental.multihost_utils import reached_preemption_sync_point

from zoo.data.images import File, write_atomically
from zoo.train import checkpoint, config, logs
from zoo.train.config import Experiment
from zoo.train.logs import Log
from zoo.train.parallel import Layout, to_host
from zoo.train.run import Run
from zoo.train.state import TrainState

AILING = 5  # Log lines in a row with a task's warning before it is shown: a start may look bad.


class Diverged(ValueError):
    """The loss is no longer a number."""


class Interrupted(Exception):
    """A signal asked to stop; the state is saved."""

    def __init__(self, signum: int, step: int):
        super().__init__(f"Stopped by {signal.Signals(signum).name}; step {step} is saved.")
        self.signum = signum


def train(
    name: str,
    experiment: Experiment,
    workdir: File,
    layout: Layout,
    *,
    beside: Iterable[tuple[str, bytes]] = (),
    watch: Callable[[int, TrainState], None] = lambda count, state: None,
    finish: Callable[..., None] | None = None,
    make_run: Callable[[Experiment, Layout], Run] = Run,
) -> dict[str, Any]:
    """Trains, or goes on training, and scores the best checkpoint on `experiment.split`.

    The workdir keeps the experiment's `name` and the files `beside`, pairs of name and bytes.
    `watch` is called after each dispatch (a step, or a chunk of `Run.chunks`) with the number of
    this launch's steps and the state, whose memory the next takes. Returns `step`, `split` and the
    scores by name. When all that is kept, process 0 calls `finish(run, variables, results, found,
    workdir, log)` with the best variables on the host, the split's `task.results` and what is
    returned here. `make_run` gives the `Run`, or a kind of it. Raises ValueError for bad input,
    before the workdir is touched; Diverged where the loss became nan or infinite (the last good
    checkpoint stands); Interrupted after SIGINT or SIGTERM.
    """
    workdir = pathlib.Path(workdir)
    run, fresh, origin = prepare(name, experiment, workdir, layout, make_run)
    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        new = {"name": name, "best": None, "stale": 0}
        state, meta, passed = checkpoints.restore(fresh) or (fresh, new, [])
        del fresh  # Or it would lie on a device beside the state, to the end.
        start, headline = int(state.step), run.task.headline
        if start > experiment.steps:
            problem = f"{workdir} was trained to step {start} already, not to {experiment.steps}"
            raise ValueError(f"{problem}; set steps={start} or more, or choose another --workdir.")
        if jax.process_index() == 0:  # The first files: they tell that the others are a run's.
            config.write_experiment(workdir, name, experiment, run.info)
            for file, text in beside:
                write_atomically(workdir / file, lambda out, text=text: out.write(text))
        with Log(workdir, steps=experiment.steps, start=start, headline=headline) as log:
            for line in passed:
                log.say(f"Warning: {line}; going on from the checkpoint before it.")
            if start:
                log.say(f"Going on in {workdir} from step {start} of {experiment.steps}.")
            elif origin:
                log.say(origin)
            state = layout.put(state)
            with _signals() as signals:
                _train_steps(run, workdir, state, meta, checkpoints, log, signals, watch)
                checkpoints.wait()
                if signals:  # It came with the last step.
                    raise Interrupted(signals[0], checkpoints.steps()[-1])
            return _finish(run, workdir, log, finish)
    finally:
        checkpoints.close()


def prepare(
    name: str, experiment: Experiment, workdir: File, layout: Layout, make_run: Callable = Run
) -> tuple[Run, TrainState, str | None]:
    """What `train` starts with: the run, its first state, and a line on what was taken over.

    Writes nothing. Raises ValueError for whatever would stop the training before its first step.
    """
    config.check_same(workdir, name, experiment)
    run = make_run(experiment, layout)
    fresh, origin = run.initial_state(), None
    begun = any(p.name.isdigit() for p in (pathlib.Path(workdir) / "checkpoints").glob("*"))
    if experiment.init_from is not None and not begun:
        source, model = experiment.init_from, experiment.model
        adopted, origin = checkpoint.adopt(fresh.variables(), source, model)
        fresh = fresh.replace(**adopted, ema=None if fresh.ema is None else adopted["params"])
    run.check(fresh.variables())
    return run, fresh, origin


def _train_steps(run: Run, workdir, state: TrainState, meta, checkpoints, log, signals, watch):
    """Steps until the end, early stopping or a signal; `signals` lists those that came."""
    config, start = run.experiment, int(state.step)
    chunks, unchecked, step, taken, ailing = None, [], start, 0, 0
    renewal = run.task.renew_every
    while step < config.steps and not _gave_up(config, meta):
        if chunks is None or (renewal and step % renewal == 0):
            chunks = run.chunks(step, run.mined(workdir, step, state.variables()))
        before, (step, advance), taken = step, next(chunks), taken + 1
        state, metrics = advance(state)
        watch(step - start, state)
        unchecked.append((step - before, metrics))
        if taken == 1:  # The compilation is not counted in images per second.
            jax.block_until_ready(state)
            clock, counted = time.perf_counter(), step
        # Many processes agree on the next one: a SIGTERM to any of them is JAX's preemption notice.
        stops = bool(signals) or reached_preemption_sync_point(taken)
        tells = step % config.log_every == 0 or step == config.steps
        evaluates = step % config.eval_every == 0 or step == config.steps
        saves = evaluates or stops or step % config.checkpoint_every == 0
        if not (saves or tells):
            continue

        values = _finite(jax.device_get(unchecked), step, checkpoints)
        unchecked, kept = [], to_host(state) if saves else None
        if saves and not all(np.isfinite(x).all() for x in jax.tree.leaves(kept.variables())):
            _diverged(f"Step {step} left parameters that are nan or infinite", checkpoints)
        if step > counted:
            images = (step - counted) * config.data.batch_size
            values["images_per_second"] = images / (time.perf_counter() - clock)
        if tells:
            log.train(step, {**values, "learning_rate": float(run.learning_rate(step - 1))})
            warning = run.task.warning(values)
            ailing = ailing + 1 if warning else 0
            if ailing == AILING:
                log.say(f"Warning, step {step}: {warning}")
        if evaluates:
            split = config.data.validation_split
            scores = run.task.scores(run.task.results(run, state.variables(), split))
            log.evaluation(step, split, scores)
            meta = _judged(meta, step, scores[run.task.headline])
        if saves:
            checkpoints.save(kept, meta)
        if stops:
            checkpoints.wait()
            raise Interrupted(signals[0] if signals else signal.SIGTERM, step)
        if _gave_up(config, meta):
            since = f"in the last {meta['stale']} evaluations (patience={config.patience})"
            log.say(f"Stopping early at step {step}: {run.task.headline} has not improved {since}.")
        clock, counted = time.perf_counter(), step


def _judged(meta: dict, step: int, score: float) -> dict:
    """The best so far, and how many evaluations in a row were no better; nan never is."""
    if not np.isnan(score) and (meta["best"] is None or score > meta["best"]["score"]):
        return {**meta, "best": {"step": step, "score": score}, "stale": 0}
    return {**meta, "stale": meta["stale"] + 1}


def _gave_up(config: Experiment, meta: dict) -> bool:
    return config.patience is not None and meta["stale"] >= config.patience


def _finite(metrics: list[tuple[int, dict]], step: int, checkpoints) -> dict[str, float]:
    """The metrics of the last step, as floats; every step since the last look is checked.

    They come as `Run.chunks` gave them, each with its number of steps.
    """
    steps = [{k: np.ravel(x)[i] for k, x in some.items()} for n, some in metrics for i in range(n)]
    for at, values in enumerate(steps, start=step - len(steps) + 1):
        if not all(np.isfinite(value) for value in values.values()):
            words = ", ".join(f"{k} {float(v):g}" for k, v in values.items())
            _diverged(f"Step {at} gave {words}", checkpoints)
    return {name: float(value) for name, value in steps[-1].items()}


def _diverged(problem: str, checkpoints) -> NoReturn:
    checkpoints.wait()
    good = max(checkpoints.steps(), default=None)
    kept = "none was saved yet" if good is None else f"step {good} is kept"
    hint = "a lower optimizer.learning_rate, optimizer.clip_norm=1, a longer optimizer.warmup_steps"
    hint += ", or model.dtype=float32, in another --workdir"
    raise Diverged(f"{problem}; stopped, the last good checkpoint stands ({kept}). Try {hint}.")


def _finish(run: Run, workdir: pathlib.Path, log: Log, finish) -> dict[str, Any]:
    """Scores the best checkpoint and says where everything lies."""
    split, headline = run.experiment.split, run.task.headline
    variables, step = checkpoint.load_variables(workdir, which="best")
    results = run.task.results(run, run.layout.put(variables), split)
    scores = run.task.scores(results)
    found = {"step": step, "split": split, **scores}
    if jax.process_index() == 0:
        if not any(r["step"] == step and r["split"] == split for r in logs.read_metrics(workdir)):
            log.evaluation(step, split, scores)
        log.say(f"{headline} {scores[headline]:.4f} on {split}, at the best step, {step}.")
        if finish is not None:
            finish(run, variables, results, found, workdir, log)
        log.say(f"Scores and checkpoints are in {workdir}.")
        log.say(f"Next: python -m zoo {run.task.use.format(workdir=shlex.quote(str(workdir)))}")
    return found


def evaluate(experiment: Experiment, workdir: File, layout: Layout, *, which: str = "best") -> dict:
    """Scores the checkpoint of a workdir on `experiment.split`, as `train` does; writes nothing.

    How many `pictures` the split has is told, too. `which` is "best" by validation score, or
    "latest". Raises ValueError for no checkpoint, an unknown split, a model of other shapes, or
    pixels of other classes.
    """
    variables, step = checkpoint.load_variables(workdir, which=which)
    trained = config.read_experiment(workdir)[2]
    if hasattr(experiment.model, "num_classes"):  # Before Run, which would have another model.
        data = experiment.task.open(experiment.data, experiment.data.train_split).info
        theirs, ours = (", ".join(info.class_names) for info in (data, trained))
        if theirs != ours:
            problem = f"{workdir} was trained on the classes {ours}, and the data hold {theirs}"
            hint = "give another data.path, or list all classes in the classes.csv of your folder"
            raise ValueError(f"{problem}; {hint}.")
    run = Run(config.as_trained(experiment, trained), layout, trains=False)
    fresh = jax.eval_shape(experiment.model.init, jax.random.key(0), *run.blank_inputs())
    checkpoint.check_fits(fresh, variables, workdir)
    scores = run.task.scores(run.task.results(run, layout.put(variables), experiment.split))
    count = len(run.source(experiment.split))
    return {"step": step, "split": experiment.split, "pictures": count, **scores}


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Lists SIGINT and SIGTERM as they come, so that no step is cut; a second is not caught."""
    received = []

    def remember(signum, frame):
        received.append(signum)
        restore.close()

    with contextlib.ExitStack() as restore:
        # Python delivers signals to the main thread alone; of many processes, JAX hears them.
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            for s in (signal.SIGINT, signal.SIGTERM):
                restore.callback(signal.signal, s, signal.signal(s, remember))
        yield received
