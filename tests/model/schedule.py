"""Random schedules: made from a seed, run step by step, and shortened if one fails."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.model.runs import JOBS, run_prune, run_update, run_upload
from tests.model.world import OUTSIDE, SYNAPSE, World, fetch, purge, thumbnail, upload, wait

#: Steps after the first ones.
_FEWEST, _MOST = 8, 20


class Step(NamedTuple):
    """One step.

    :ivar seed: of its own chances, so that it stays the same if others are left out.
    """

    what: Callable[[World], None]
    seed: int


class Failed(NamedTuple):
    """How a schedule ended."""

    error: str
    steps: list[Step]

    def __str__(self) -> str:
        lines = [f"  {step.what.__name__} ({step.seed})" for step in self.steps]
        return "\n".join([*lines, self.error])


def schedule(seed: int) -> list[Step]:
    """The steps of a seed.

    A schedule has only some kinds of events and jobs, so that it has more of each.
    """
    rng = Random(seed)

    def step(what: Callable[[World], None]) -> Step:
        return Step(what, rng.getrandbits(32))

    first = [upload] * rng.randint(1, 4) + [fetch] * rng.randint(0, 2)
    first += [thumbnail, wait, run_update] + [run_upload] * rng.randint(0, 1)
    steps = [step(what) for what in first]
    jobs = rng.sample(JOBS, rng.randint(2, 4))
    events = rng.sample(SYNAPSE, rng.randint(2, 5)) + [purge] * (run_prune in jobs)
    kinds = [events, rng.sample(OUTSIDE, rng.randint(1, 4)), jobs, [wait]]
    for _ in range(rng.randint(_FEWEST, _MOST)):
        (kind,) = rng.choices(kinds, (2, 2, 4, 2))
        steps.append(step(rng.choice(kind)))
    return steps


def failure_of(steps: list[Step], folder: Path) -> Failed | None:
    """Run steps; ``None`` if they end well."""
    with TemporaryDirectory(dir=folder) as own:
        rng = Random(steps[0].seed if steps else 0)
        world = World(Path(own), rng)
        try:
            for number, step in enumerate(steps):
                rng.seed(step.seed)
                try:
                    if step.what in JOBS:
                        step.what(world)
                    else:
                        world.event(step.what)
                except Exception:
                    return Failed(traceback.format_exc(limit=-6), steps[: number + 1])
        finally:
            world.close()
    return None


def shortened(failed: Failed, folder: Path) -> Failed:
    """Leave out steps as long as the rest still fails."""
    number = 0
    while number < len(failed.steps):
        fewer = failed.steps[:number] + failed.steps[number + 1 :]
        again = failure_of(fewer, folder)
        if again is None:
            number += 1
        else:
            failed = again
    return failed
