"""The time limits of the checks, so that whatever is unreachable is said within 15 seconds.

Each step has a limit of its own, and so have all steps of one place together. What removes a
test object has another limit, and runs also after all others are over.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError

from swift_provider.errors import SwiftProviderError

Result = TypeVar("Result")

#: On the connection, and on the response to one request.
REQUEST_SECONDS = 5.0
STEP_SECONDS = 6.0
ALL_STEPS_SECONDS = 10.0
REMOVAL_SECONDS = 3.0


class NoAnswerError(SwiftProviderError):
    """A step took too long."""

    temporary = True


class NotAskedError(SwiftProviderError):
    """A step did not begin, because the others took too long. Nothing was sent."""

    temporary = True


class StoppedError(Exception):
    """Somebody asked to end the checks, such as by Ctrl-C."""


class Steps:
    """Runs the steps of some checks that depend on each other.

    :param reactor: the clock.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        #: Set by the first step: the reactor's clock may be another one before it runs.
        self._until: float | None = None
        self._stopped = False

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run one step.

        :raises NoAnswerError: if it takes too long.
        :raises NotAskedError: if no time is left.
        :raises StoppedError: after :meth:`stop`.
        """
        now = self._reactor.seconds()
        if self._until is None:
            self._until = now + ALL_STEPS_SECONDS
        left = self._until - now
        if self._stopped or left <= 0:
            work.close()
            if self._stopped:
                raise StoppedError
            raise NotAskedError(
                f"not tried, because the steps before took {ALL_STEPS_SECONDS:g} seconds: find out "
                "why Keystone or Swift is so slow"
            )
        return await self._within(min(left, STEP_SECONDS), work)

    async def remove(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a step that leaves nothing behind, in any case.

        :raises NoAnswerError: if it takes too long.
        """
        return await self._within(REMOVAL_SECONDS, work)

    def stop(self) -> None:
        """Begin no further step. One that runs ends by itself, so that its outcome is known."""
        self._stopped = True

    async def _within(self, seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            return await Deferred.fromCoroutine(work).addTimeout(seconds, self._reactor)
        except DeferredTimeoutError:
            raise NoAnswerError(
                f"no answer within {seconds:.0f} seconds: check the URL, the network and firewalls"
            ) from None
