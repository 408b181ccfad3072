"""Says on standard error when a run waits for a Swift, or a Keystone, that does not answer.

At once, if nothing has answered in this run yet: then a URL may be wrong. Later, once nothing
has been sent or received for :data:`QUIET_SECONDS`: before that, a retry is nothing unusual.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from swift_provider.client import Observer
from swift_provider.errors import AuthError, SwiftProviderError
from swift_provider.offload.jobs.members import reason_of
from swift_provider.offload.print_line import print_line

QUIET_SECONDS = 10.0


class SwiftWaits(Observer):
    """Watches one place in Swift.

    :param name: of the place, for each line; empty if there is only one.
    :param clock: seconds, from any start.
    :ivar note: prints a line; a progress bar puts its own in this place.
    :ivar moved: told how many bytes were sent or received; likewise.
    :ivar in_flight: how many requests are sent and not answered in full.
    """

    def __init__(self, name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.note: Callable[[str], None] = _to_stderr
        self.moved: Callable[[int], None] = _ignored
        self.in_flight = 0
        self.name = name
        self._clock = clock
        self._answered_at: float | None = None
        self._waits = False
        self._last: SwiftProviderError | None = None

    def exchange_finished(self, method: str, status: int | None, seconds: float) -> None:
        if status is not None:
            self._lives()

    def sent(self, count: int) -> None:
        self._lives()
        self.moved(count)

    def received(self, count: int) -> None:
        self._lives()
        self.moved(count)

    def slots_changed(self, in_flight: int, waiting: int) -> None:
        self.in_flight = in_flight

    def _lives(self) -> None:
        self._answered_at = self._clock()
        self._waits = False

    def retry_waits(self, error: SwiftProviderError, seconds: float) -> None:
        self._last = error
        answered = self._answered_at
        if self._waits or (answered is not None and self._clock() - answered < QUIET_SECONDS):
            return
        self._waits = True
        text = reason_of(error).removeprefix(f"{self.name}: ")
        where = f"{self.name}: " if self.name else ""
        minutes, rest = divmod(round(seconds), 60)
        time_left = f"{minutes} minutes" if minutes and not rest else f"{round(seconds)} seconds"
        self.note(f"{where}{text[:1].upper()}{text[1:]}. Retrying for {time_left}; Ctrl-C stops.")

    @property
    def busy(self) -> bool:
        """Whether the run waits for Swift."""
        return self._waits or self.in_flight > 0

    @property
    def remedy(self) -> str:
        """What to check if Swift has never answered in this run; empty otherwise."""
        if self._answered_at is not None or self._last is None or isinstance(self._last, AuthError):
            return ""
        return (
            ". Check storage_url, or else Swift's URL in Keystone's catalogue, and whether Swift "
            "runs there"
        )


def _ignored(count: int) -> None:
    """Nobody shows the progress."""


def _to_stderr(line: str) -> None:
    print_line(line, sys.stderr)
