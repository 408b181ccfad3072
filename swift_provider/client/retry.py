"""What is worth another try, after how long, and when to give up.

The errors themselves say whether a repetition can help
(:attr:`swift_provider.errors.SwiftProviderError.temporary`); this module says
how often and how long. A 401 and a stale connection are not counted here: the
client replays those once, at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.interfaces import IReactorTime

from swift_provider.errors import SwiftProviderError


@dataclass(frozen=True)
class Patience:
    """How long to go on trying. All times are in seconds.

    :param total_seconds: no further try begins later than this after the first; waiting
        for a slot, and sending a large body, do not count.
    :param first_delay: the longest pause before the second try; it doubles with each.
    :param longest_delay: the most it doubles to.
    :param operation_seconds: the limit on a whole operation, all tries included...
    :param slowest_bytes_per_second: ...to which an upload adds its size at this rate.
    """

    total_seconds: float
    first_delay: float
    longest_delay: float
    operation_seconds: float
    slowest_bytes_per_second: int = 64 * 1024

    #: Somebody waits for a picture: give up in seconds.
    MODULE: ClassVar[Patience]
    #: Nobody waits, and a cluster may be down for minutes.
    SCRIPT: ClassVar[Patience]

    def operation_limit(self, size: int = 0) -> float:
        """Seconds that an operation on ``size`` bytes may take as a whole."""
        return self.operation_seconds + self.sending_limit(size)

    def sending_limit(self, size: int) -> float:
        """Seconds that it may take to send a body of ``size`` bytes."""
        return size / self.slowest_bytes_per_second


Patience.MODULE = Patience(
    total_seconds=15.0, first_delay=0.25, longest_delay=4.0, operation_seconds=90.0
)
Patience.SCRIPT = Patience(
    total_seconds=300.0, first_delay=0.5, longest_delay=30.0, operation_seconds=900.0
)


class Tries:
    """The tries of one operation.

    :param clock: tells the time.
    """

    def __init__(self, patience: Patience, clock: IReactorTime) -> None:
        self._patience = patience
        self._clock = clock
        self.refill()

    def refill(self) -> None:
        """Begin anew: the operation got further than before."""
        self._failures = 0
        self._began = self._clock.seconds()

    def excuse(self, seconds: float) -> None:
        """So much of the time since the first try does not count."""
        self._began += seconds

    def delay_after(self, error: SwiftProviderError) -> float | None:
        """How long to wait before the next try.

        :returns: seconds; ``None`` if the error is final, time is up, or Swift
            asks for a longer pause than is left.
        """
        if not error.temporary:
            return None
        patience = self._patience
        longest = min(patience.first_delay * 2.0**self._failures, patience.longest_delay)
        self._failures += 1
        # Half fixed, half drawn: many clients that failed together must not return together.
        delay = longest * random.uniform(0.5, 1.0)
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None:
            delay = max(delay, asked)
        if self._clock.seconds() + delay > self._began + patience.total_seconds:
            return None
        return delay
