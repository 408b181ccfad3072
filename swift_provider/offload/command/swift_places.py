"""Asks whether the places in Swift that ``homeserver.yaml`` names can be used now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from swift_provider.client import Place
from swift_provider.config import Settings
from swift_provider.errors import AccessDeniedError, SwiftProviderError
from swift_provider.offload.command.run_job import run

#: The time limit on the answer of each place.
SECONDS = 10.0


@dataclass(frozen=True)
class SwiftPlace:
    """One place.

    :ivar name: what people call it.
    :ivar reason: why it cannot be used; ``None`` if it can.
    """

    name: str
    container: str
    reason: str | None

    @property
    def usable(self) -> bool:
        """Whether it can be used now."""
        return self.reason is None

    def __str__(self) -> str:
        can = "can be used" if self.usable else f"cannot be used: {self.reason}"
        return f"Swift: {self.name}, container {self.container}: {can}"


def ask_places(entries: Sequence[Settings]) -> list[SwiftPlace]:
    """Ask all places of some entries at the same time. Runs the reactor.

    :returns: one for each place of each entry.
    :raises KeyboardInterrupt: if a signal came.
    """
    asking: list[Deferred[SwiftPlace]] = []
    interrupted = False

    async def ask_all() -> list[SwiftPlace]:
        settings = [member for entry in entries for member in entry.members]
        asking.extend(Deferred.fromCoroutine(_ask(one)) for one in settings)
        ended = await DeferredList(asking, consumeErrors=True)
        for _, result in ended:
            if isinstance(result, Failure) and not interrupted:
                result.raiseException()
        return [result for _, result in ended]

    def stop() -> None:
        nonlocal interrupted
        interrupted = True
        for one in asking:
            one.cancel()

    places = run(reactor, ask_all, stop, lambda: None, lambda line: None)
    if interrupted:
        raise KeyboardInterrupt
    return places


async def _ask(settings: Settings) -> SwiftPlace:
    reason = None
    try:
        place = Place.from_settings(reactor, settings, shares_reactor=False)
        place.hurry()
        try:
            await Deferred.fromCoroutine(place.check()).addTimeout(SECONDS, reactor)
        finally:
            await place.close()
    except AccessDeniedError:
        pass  # An ACL may allow this user the objects, and not the container.
    except SwiftProviderError as error:
        reason = str(error)
    except DeferredTimeoutError:
        reason = f"no answer within {SECONDS:.0f} seconds"
    return SwiftPlace(settings.label, settings.container, reason)
