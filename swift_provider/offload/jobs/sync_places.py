"""The places that a ``sync`` copies between, and which of them it has given up.

What fails in one place concerns that place only. The run goes on without it, as long as one
place is left to copy from and another one to copy to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from swift_provider.client import Place, SeenPlace, same_place
from swift_provider.errors import (
    AccessDeniedError,
    AuthError,
    ConfigError,
    ContainerNotFoundError,
    InsufficientStorageError,
    SwiftProviderError,
)
from swift_provider.offload.jobs.members import without_name
from swift_provider.offload.tally import MemberTally, Tally

#: Errors that would fail every other object too.
CONCERNS_ALL = (AuthError, ContainerNotFoundError, InsufficientStorageError)
#: After so many failures of the same work in a place without a success in between, it counts
#: as down, or as denying everything. The client has retried what can be retried for minutes.
FAILURES_IN_A_ROW = 20
DENIALS_IN_A_ROW = 5

#: The kinds of work. A place may take nothing and still answer questions.
ASKED = "asked"
READ = "read"
WRITTEN = "written"


class SyncPlaces:
    """The places of one run.

    :param sources: those to copy from; some may be ``targets`` too.
    :param tally: gets which of them were left out, and why.
    :param note: prints a line.
    :param on_too_few: called with the error, once nothing is left to copy between.
    :ivar all: all places, in the order of the configuration.
    """

    def __init__(
        self,
        places: Sequence[Place],
        sources: Sequence[Place],
        targets: Sequence[Place],
        tally: Tally,
        note: Callable[[str], None],
        on_too_few: Callable[[SwiftProviderError], None],
    ) -> None:
        self.all = tuple(places)
        self._sources = tuple(sources)
        self._targets = tuple(targets)
        self._tally = tally
        self._note = note
        self._on_too_few = on_too_few
        self._left_out: set[Place] = set()
        self._failures: Counter[tuple[Place, str]] = Counter()
        tally.members.update((place.name, MemberTally()) for place in places)

    @property
    def in_use(self) -> tuple[Place, ...]:
        """Those that the run has not given up."""
        return self._in_use(self.all)

    @property
    def sources(self) -> tuple[Place, ...]:
        """Those of them to copy from."""
        return self._in_use(self._sources)

    @property
    def targets(self) -> tuple[Place, ...]:
        """Those of them to copy to."""
        return self._in_use(self._targets)

    def _in_use(self, places: Sequence[Place]) -> tuple[Place, ...]:
        return tuple(place for place in places if place not in self._left_out)

    async def check(self, *, dry_run: bool) -> None:
        """Ask all places at the same time whether their containers can be used. A target's
        container that is missing is made, if the settings say so.

        :raises ConfigError: if two of them lead to the same objects.
        :raises SwiftProviderError: if it is a mistake in the configuration that one cannot; or
            if too few are left.
        """
        checks = [Deferred.fromCoroutine(self._check(place, dry_run)) for place in self.all]
        ended: list[tuple[bool, Any]] = await DeferredList(checks, consumeErrors=True)
        errors: dict[Place, SwiftProviderError] = {}
        seen: list[SeenPlace] = []
        for place, (succeeded, result) in zip(self.all, ended, strict=True):
            if succeeded:
                seen.append(SeenPlace(place, result))
                continue
            error = result.value
            if not isinstance(error, SwiftProviderError):
                raise error
            error.mirror = place.name
            errors[place] = error
        for error in errors.values():
            if isinstance(error, (ContainerNotFoundError, AuthError)) and not error.temporary:
                raise error
        objection = await same_place(seen)
        if objection is not None:
            raise ConfigError(objection)
        for place, error in errors.items():
            self.leave_out(place, error)

    async def _check(self, place: Place, dry_run: bool) -> str:
        """:returns: see :attr:`.SeenPlace.made`."""
        try:
            return await place.check()
        except AccessDeniedError:
            # An ACL may allow this user the objects and not the container. If it allows
            # neither, the listing fails.
            return ""
        except ContainerNotFoundError:
            if dry_run or place not in self._targets or not place.creates_container:
                raise
        await place.create()
        return await place.check()

    def succeeded(self, place: Place, work: str) -> None:
        """A place did some work."""
        self._failures.pop((place, work), None)

    def failed(self, place: Place, work: str, error: SwiftProviderError) -> None:
        """A place failed: leave it out if it seems to fail all objects."""
        denied = isinstance(error, AccessDeniedError)
        if isinstance(error, CONCERNS_ALL):
            self.leave_out(place, error)
        elif error.temporary or denied:
            self._failures[place, work] += 1
            limit = DENIALS_IN_A_ROW if denied else FAILURES_IN_A_ROW
            if self._failures[place, work] >= limit:
                self.leave_out(place, error)

    def leave_out(self, place: Place, error: SwiftProviderError) -> None:
        """Give a place up for the rest of the run."""
        if place in self._left_out or self._tally.interrupted:
            return
        self._left_out.add(place)
        if not any(one is not other for one in self.sources for other in self.targets):
            self._on_too_few(error)
            return
        reason = self._tally.members[place.name].left_out = without_name(error)
        self._note(f"{place.name} is left out of the rest of this run: {reason}")
        if error.temporary:
            # What still waits for it would wait for minutes.
            place.hurry()
