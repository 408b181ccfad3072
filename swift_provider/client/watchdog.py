"""One time limit at a time, cheap enough to renew on every piece of a body."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Watchdog:
    """Barks once when nothing has happened for too long.

    Renewing only notes the time; the delayed call, when it comes, looks whether
    the limit has really passed, and else waits for the rest of it.

    :param bark: called with the description of the limit that passed.
    """

    def __init__(self, clock: IReactorTime, bark: Callable[[str], None]) -> None:
        self._clock = clock
        self._bark = bark
        self._limit = 0.0
        self._what = ""
        self._since = 0.0
        self._call: IDelayedCall | None = None

    def watch(self, seconds: float, what: str) -> None:
        """Begin a new limit in place of the one before.

        :param what: what did not happen, for the message: ``"no answer came"``.
        """
        self.rest()
        self._limit = seconds
        self._what = what
        self._since = self._clock.seconds()
        self._call = self._clock.callLater(seconds, self._look)

    def renew(self) -> None:
        """Something happened: the limit begins anew."""
        self._since = self._clock.seconds()

    def rest(self) -> None:
        """Watch nothing."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        self._call = None
        left = self._since + self._limit - self._clock.seconds()
        if left > 0.0:
            self._call = self._clock.callLater(left, self._look)
        else:
            self._bark(f"{self._what} for {self._limit:g} seconds")
