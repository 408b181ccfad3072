"""The job ``prune`` for several places in Swift that hold the same objects: one after the other.

Each place has its own run, with its own figures and its own refusals, because each may have
objects that the others lack. What goes wrong with one does not keep the others from their turn.

But there is one database. If the objects of one place show that it may be the wrong one, nothing
is deleted anywhere; nor if they show that another homeserver uses the places, and objects without
a mark were to be deleted. So all places are looked at before anything is deleted: a run that has
looked waits for the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from swift_provider.client import Place, Store
from swift_provider.errors import ConfigError
from swift_provider.offload.jobs.prune import AskOthers, Prune
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally, tells


class Named(Progress):
    """Puts the name of a place before each line.

    :param progress: shows it.
    """

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name

    def expect(self, total: int | None) -> None:
        self._progress.expect(total)

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        self._progress.advance(count, files, failed, size)

    def note(self, line: str) -> None:
        self._progress.note(f"{self._name}: {line}")

    def show(self, line: str) -> None:
        self._progress.show(f"{self._name}: {line}")


@dataclass
class EachTally(Tally):
    """The figures of all runs.

    :ivar parts: those of each run, by the name of the place.
    :ivar unreached: the places where nothing was looked at.
    :ivar refused: why nothing may be deleted from a place, by its name.
    """

    parts: dict[str, Tally] = field(default_factory=dict)
    unreached: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def incomplete(self) -> bool:
        """Whether any run failed."""
        return any(one.failures or one.stopped for one in self.parts.values())

    def as_mapping(self) -> dict[str, Any]:
        """The figures for ``--json``."""
        members = {
            name: {**part.as_mapping(), "refused": self.refused.get(name)}
            for name, part in self.parts.items()
        }
        return {
            "members": members,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "interrupted": self.interrupted,
        }

    def lines(self, *, alone: bool = False) -> list[str]:
        """See :meth:`.Tally.lines`."""
        lines = []
        for name, part in self.parts.items():
            if name in self.unreached and part.stopped:
                lines.append(f"{name}: {part.stopped.removeprefix(f'{name}: ')}")
                continue
            of_part = part.lines(alone=alone)
            if alone:  # before the name, which may have a digit
                of_part = [line for line in of_part if tells(line)]
            if name in self.refused:
                of_part.append(f"Refused: {self.refused[name]}")
            if not alone:
                lines.append(f"{name}:")
            before = f"{name}: " if alone else "  "
            lines += [f"{before}{line}" for line in of_part]
        return lines


async def in_turn(
    places: Sequence[Place], run_one: Callable[[Place, AskOthers], Awaitable[str | None]]
) -> None:
    """Run ``prune`` for each place, so that all have been looked at before any deletes.

    :param run_one: does the run of one place, and gives it what to ask. Its result is the
        doubt of a run that stopped before it asked; ``None`` for none.
    """
    doubts: dict[str, str] = {}

    async def run_from(number: int) -> None:
        if number == len(places):
            return
        place = places[number]
        asked = False

        async def ask_others(doubt: str | None) -> str | None:
            nonlocal asked
            asked = True
            if doubt is not None:
                doubts[place.name] = doubt
            await run_from(number + 1)
            others = [f"{name}: {text}" for name, text in doubts.items() if name != place.name]
            return "; ".join(others) or None

        doubt = await run_one(place, ask_others)
        if not asked:
            if doubt is not None:
                doubts[place.name] = doubt
            await run_from(number + 1)

    await run_from(0)


class PruneEach:
    """All runs.

    :param make: makes the run of one place.
    :ivar begun: whether any run got past the check of its container.
    """

    def __init__(
        self,
        store: Store,
        make: Callable[[Place, Progress, AskOthers], Prune],
        progress: Progress,
    ) -> None:
        self.progress = progress
        self.tally = EachTally()
        self.begun = False
        self._places = store.members
        self._make = make
        self._running: list[Prune] = []

    def stop(self) -> None:
        """End soon; see :meth:`.Job.stop`."""
        self.tally.interrupted = True
        for job in self._running:
            job.stop()

    async def run(self) -> EachTally:
        """Do all runs; an error of one is in its figures."""
        await in_turn(self._places, self._run_one)
        parts = self.tally.parts.items()
        stopped = [
            f"{name}: {part.stopped.removeprefix(name + ': ')}"
            for name, part in parts
            if part.stopped
        ]
        if len(stopped) == len(self._places):
            self.tally.stopped = "; ".join(stopped)
        self.tally.finish()
        return self.tally

    async def _run_one(self, place: Place, ask_others: AskOthers) -> str | None:
        if self.tally.interrupted:
            return None
        job = self._make(place, Named(self.progress, place.name), ask_others)
        self._running.append(job)
        self.tally.parts[place.name] = job.tally
        try:
            await job.run()
        except ConfigError as error:
            self.tally.refused[place.name] = str(error)
        finally:
            self._running.remove(job)
            if not job.begun:
                self.tally.unreached.add(place.name)
        self.begun |= job.begun
        return job.doubt
