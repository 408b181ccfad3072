"""One time limit at a time, cheap enough to renew on every piece of a body."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Watchdog:
    """Barks once when nothing has happened for too long.

    Renewing only notes the time, and so do resting and a limit that is not nearer
    than the one before; the delayed call, when it comes, looks whether the limit
    has really passed, and else waits for the rest of it. Call :meth:`stop` at the end.

    :param bark: called with the description of the limit that passed.
    """

    def __init__(self, clock: IReactorTime, bark: Callable[[str], None]) -> None:
        self._clock = clock
        self._bark = bark
        self._limit: float | None = None
        self._what = ""
        self._since = 0.0
        self._call: IDelayedCall | None = None

    def watch(self, seconds: float, what: str) -> None:
        """Begin a new limit in place of the one before.

        :param what: what did not happen, for the message: ``"no answer came"``.
        """
        self._limit = seconds
        self._what = what
        self._since = self._clock.seconds()
        call = self._call
        if call is not None and call.getTime() > self._since + seconds:
            call.cancel()
            call = None
        if call is None:
            self._call = self._clock.callLater(seconds, self._look)

    def renew(self) -> None:
        """Something happened: the limit begins anew."""
        self._since = self._clock.seconds()

    def rest(self) -> None:
        """Watch nothing for now."""
        self._limit = None

    def stop(self) -> None:
        """Watch nothing, and leave no delayed call behind."""
        self._limit = None
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        self._call = None
        if self._limit is None:
            return
        left = self._since + self._limit - self._clock.seconds()
        if left > 0.0:
            self._call = self._clock.callLater(left, self._look)
        else:
            limit, self._limit = self._limit, None
            self._bark(f"{self._what} for {limit:g} seconds")
