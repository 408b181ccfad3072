"""How often to retry, after how long, and when to give up.

Whether a retry can help at all is for the error to say
(:attr:`swift_provider.errors.SwiftProviderError.temporary`). Two cases do not count
here, because the requester retries them at once: a 401 (up to four times, see
:mod:`swift_provider.client.requester`) and a stale connection (once).
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import ClassVar

from twisted.internet.interfaces import IReactorTime

from swift_provider.client.observer import Progress
from swift_provider.errors import SwiftProviderError


@dataclass(frozen=True)
class Patience:
    """How long to retry. All times are in seconds.

    :param total_seconds: no attempt begins later than this after the first one. Waiting
        for a slot and sending a large body do not count.
    :param first_delay: the longest delay before the second attempt. It doubles with
        each attempt.
    :param longest_delay: the delay stops doubling here.
    :param operation_seconds: the time limit on a whole operation, all attempts included.
    :param slowest_bytes_per_second: an upload adds its size at this rate to that limit.
    :param first_contact_seconds: the same as ``total_seconds`` until Swift, or Keystone, has
        answered for the first time: a wrong URL never will.
    """

    total_seconds: float
    first_delay: float
    longest_delay: float
    operation_seconds: float
    slowest_bytes_per_second: int = 64 * 1024
    first_contact_seconds: float = math.inf

    #: A user waits for a picture: give up in seconds.
    MODULE: ClassVar[Patience]
    #: No user waits, and a cluster may be down for minutes.
    SCRIPT: ClassVar[Patience]

    def limit(self, *, reached: bool) -> float:
        """The seconds in which further attempts may begin.

        :param reached: whether the server has answered before.
        """
        if reached:
            return self.total_seconds
        return min(self.total_seconds, self.first_contact_seconds)

    def once(self) -> Patience:
        """The same, without a retry."""
        return replace(self, total_seconds=0.0)

    def operation_limit(self, size: int = 0) -> float:
        """The time limit in seconds on an operation with ``size`` bytes to send."""
        return self.operation_seconds + self.sending_limit(size)

    def sending_limit(self, size: int) -> float:
        """The seconds allowed for sending a body of ``size`` bytes."""
        return size / self.slowest_bytes_per_second


Patience.MODULE = Patience(
    total_seconds=15.0, first_delay=0.25, longest_delay=4.0, operation_seconds=90.0
)
Patience.SCRIPT = Patience(
    total_seconds=300.0,
    first_delay=0.5,
    longest_delay=30.0,
    operation_seconds=900.0,
    first_contact_seconds=15.0,
)


class Tries:
    """Counts the attempts of one operation.

    :param clock: tells the time.
    :param timeouts: seconds spent in timeouts that do not count.
    :param progress: is told what the operation is doing.
    :ivar progress: as given.
    """

    def __init__(
        self,
        patience: Patience,
        clock: IReactorTime,
        *,
        timeouts: float = 0.0,
        progress: Progress | None = None,
    ) -> None:
        self.progress = progress or Progress()
        self._patience = patience
        self._timeouts = timeouts
        self._clock = clock
        self._failures = 0
        self._began = clock.seconds()

    def another(self) -> Tries:
        """A count for another operation that the operation needs."""
        return Tries(self._patience, self._clock, progress=self.progress)

    def once(self) -> Tries:
        """The same for a single attempt."""
        return Tries(self._patience.once(), self._clock, progress=self.progress)

    def refill(self) -> None:
        """Count from the beginning: the operation got further than before."""
        self._failures = 0
        self._began = self._clock.seconds()

    def excuse(self, seconds: float) -> None:
        """Leave ``seconds`` of the time since the first attempt out of account."""
        self._began += seconds

    def excuse_timeout(self, seconds: float) -> None:
        """Leave an attempt that timed out out of account, as far as that is allowed."""
        excused = min(seconds, self._timeouts)
        self._timeouts -= excused
        self.excuse(excused)

    def delay_after(self, error: SwiftProviderError, *, reached: bool = True) -> float | None:
        """How long to wait before the next attempt.

        :param reached: whether the server that failed has answered before.
        :returns: seconds; ``None`` if the error is final, time is up, or Swift
            asks for a longer wait than is left.
        """
        if not error.temporary:
            return None
        patience = self._patience
        longest = min(patience.first_delay * 2.0**self._failures, patience.longest_delay)
        self._failures += 1
        # Half fixed, half random: clients that failed together must not retry together.
        delay = longest * random.uniform(0.5, 1.0)
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None:
            delay = max(delay, asked)
        now = self._clock.seconds()
        # If the clock was set back, as from now: or the retries would go on for as long.
        self._began = min(self._began, now)
        if now + delay > self._began + patience.limit(reached=reached):
            return None
        return delay


def retry_after_seconds(value: str) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait (RFC 9110 section 10.2.3).

    :param value: a number of seconds or an HTTP date, which is in UTC.
    :returns: ``None`` if the value is empty or unreadable; 0 for a date in the past.
    """
    value = value.strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, date.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
