"""Asks whether the places in Swift that ``homeserver.yaml`` names can be used now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeoutError

from swift_provider.client import Place
from swift_provider.config import Settings
from swift_provider.errors import AccessDeniedError, SwiftProviderError
from swift_provider.offload.run_reactor import run_reactor

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
    """
    settings = [member for entry in entries for member in entry.members]
    return run_reactor(reactor, lambda: _ask_all(settings))


async def _ask_all(settings: Sequence[Settings]) -> list[SwiftPlace]:
    asking = [Deferred.fromCoroutine(_ask(one)) for one in settings]
    return list(await gatherResults(asking))


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
