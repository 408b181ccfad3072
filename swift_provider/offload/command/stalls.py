"""Says what a run waits for, once it has made no progress for :data:`QUIET_SECONDS`."""

from __future__ import annotations

from collections.abc import Callable

from swift_provider.offload.progress import Progress

QUIET_SECONDS = 10.0


class Stalls:
    """Call :meth:`look` once in a while.

    :param what: says what the run waits for, such as ``"Swift"``.
    :param clock: seconds, from any start.
    """

    def __init__(
        self, progress: Progress, what: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        self._progress = progress
        self._what = what
        self._clock = clock
        self._events = progress.events
        self._since = clock()

    def look(self) -> None:
        """Say so if there has been no progress, or that it goes on."""
        now = self._clock()
        if self._progress.events != self._events:
            self._events = self._progress.events
            self._since = now
            self._progress.waits("")
        elif now - self._since >= QUIET_SECONDS:
            self._progress.waits(f"Waiting for {self._what()} for {now - self._since:.0f} s")
