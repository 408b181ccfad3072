"""Measures how long Swift takes to answer, so that coroutines can stop waiting for it.

The time in which a request waits for a slot does not count. It shows that this process is
busy, and nothing about Swift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from swift_provider.client.observer import Progress
from swift_provider.errors import SwiftProviderError

Result = TypeVar("Result")


class Asking(Progress):
    """One operation, as the client reports it.

    :param clock: the reactor.
    :param also: is told the same.
    :ivar asked: whether any request has been sent.
    :ivar answered: whether Swift has answered that there is no such object, and is asked again.
    """

    def __init__(self, clock: Any, also: Progress | None = None) -> None:
        self._clock = clock
        self._also = also or Progress()
        self.asked = self.answered = False
        self._spent = 0.0
        self._first: float | None = None
        self._since_answer: float | None = None
        self._current: float | None = None

    def attempt_begins(self) -> None:
        self.asked = True
        self._current = self._clock.seconds()
        if self._first is None:
            self._first = self._current
        if self._since_answer is None:
            self._since_answer = self._current
        self._also.attempt_begins()

    def goes_on(self) -> None:
        self._next_request()
        self.answered = True
        self._also.goes_on()

    def request_ended(self) -> None:
        self._next_request()
        self.answered = False
        self._also.request_ended()

    def _next_request(self) -> None:
        self._spent = self.spent()
        self._first = self._since_answer = self._current = None

    def retry_waits(self, error: SwiftProviderError) -> None:
        self._current = None
        self._also.retry_waits(error)

    def spent(self) -> float:
        """Seconds since the first attempt began; 0 before, and if the clock was set back."""
        if self._first is not None:
            self._first = min(self._first, self._clock.seconds())
        return self._spent + self._since(self._first)

    def unanswered(self) -> float:
        """The same, since the first attempt after the last answer."""
        if self._since_answer is not None:
            self._since_answer = min(self._since_answer, self._clock.seconds())
        return self._since(self._since_answer)

    def silent(self) -> float:
        """Seconds since the current attempt began; 0 between two attempts."""
        return self._since(self._current)

    def _since(self, moment: float | None) -> float:
        passed: float = 0.0 if moment is None else self._clock.seconds() - moment
        return passed


def give_up(
    waiting: Deferred[Result], seconds: float, passed: Callable[[], float], clock: Any
) -> Deferred[Result]:
    """Cancel a Deferred once so many seconds have passed; it fails with ``TimeoutError`` then.

    :param passed: :meth:`Asking.spent` or :meth:`Asking.silent`.
    """
    timed_out = False
    call: Any = None

    def look() -> None:
        nonlocal timed_out, call
        left = seconds - passed()
        if left > 0:
            call = clock.callLater(left, look)
        else:
            timed_out = True
            waiting.cancel()

    def end(result: Any) -> Any:
        if call.active():
            call.cancel()
        if timed_out and isinstance(result, Failure) and result.check(CancelledError):
            raise DeferredTimeoutError(seconds, "Deferred")
        return result

    call = clock.callLater(seconds, look)
    return waiting.addBoth(end)
