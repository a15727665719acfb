"""The launcher's loop from end to end, data and log included, beside the bare step it repeats.

A call trains quickstart's U-Net on scenes of digits in a fresh workdir and gives the seconds of a
step, once it is warm and before the evaluation at the end. The bare step has one batch, which lies
on the device. The loop may cost at most 5 % more.
"""

import dataclasses
import tempfile
import time

from experiments.bench.row import OURS, Case, Row, Side

WARM = 10  # Steps that are not counted.


def rows(*, quick: bool) -> list[Row]:
    options = {"steps": WARM + (5 if quick else 60), "tiny": quick}
    sides = {
        OURS: Side(f"{__name__}:loop", options, ("jax", "flax", "grain")),
        "bare step": Side(f"{__name__}:bare", options, ("jax", "flax")),
    }
    what = f"a step of quickstart (batch 16, 64 x 64 px), of {options['steps'] - WARM}"
    return [Row("launcher/loop", what, sides, images=16)]


def experiment(steps: int, tiny: bool):
    from experiments import quickstart

    base = quickstart.experiment()
    base = dataclasses.replace(
        base, steps=steps, log_every=20, eval_every=steps, checkpoint_every=steps
    )
    return dataclasses.replace(base, model=base.model.clone(width=2, depth=1)) if tiny else base


def loop(*, steps: int, tiny: bool) -> Case:
    from zoo.train.loop import train
    from zoo.train.parallel import Layout

    starts: list[float] = []

    class Clocked(Layout):
        """Notes when each training step is given to the device."""

        def map(self, step, *, donate=False):
            run = super().map(step, donate=donate)
            if not donate:
                return run

            def noted(*args):
                starts.append(time.perf_counter())
                return run(*args)

            return noted

    def call() -> float:
        starts.clear()
        with tempfile.TemporaryDirectory() as folder:
            train("quickstart", experiment(steps, tiny), folder, Clocked())
        return (starts[-1] - starts[WARM]) / (len(starts) - 1 - WARM)

    return Case(call, clocked=True)


def bare(*, steps: int, tiny: bool) -> Case:
    import jax

    from zoo.train.parallel import Layout
    from zoo.train.run import Run

    layout = Layout()
    run = Run(experiment(steps, tiny), layout)
    state, batch = layout.put(run.initial_state()), run.split(run.train_items()[0])

    def call() -> float:
        nonlocal state
        state, _ = jax.block_until_ready(run.train_step(state, batch))
        start = time.perf_counter()
        for _ in range(steps - WARM):
            state, _ = run.train_step(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / (steps - WARM)

    return Case(call, clocked=True)
