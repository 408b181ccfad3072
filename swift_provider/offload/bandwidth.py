"""Spreads the files of a run over time, so that it moves only so many bytes a second.

Each file moves at full speed; the pause before the next one makes up for it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from swift_provider.errors import NotBegunError


class Bandwidth:
    """The limit of one run.

    :param per_second: bytes; ``None`` for no limit.
    """

    def __init__(self, reactor: Any, per_second: int | None = None) -> None:
        self._reactor = reactor
        self._per_second = per_second
        self._free_at = 0.0
        self._stopped = False
        self._waiting: set[Deferred[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether a file waits for its turn."""
        return bool(self._waiting)

    async def take(self, size: int) -> None:
        """Wait until a file of so many bytes may move. May be cancelled.

        :raises NotBegunError: if the run ends before.
        """
        if self._per_second is None:
            return
        if self._stopped:
            raise NotBegunError
        now = self._reactor.seconds()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._per_second
        if begin == now:
            return
        waiting: Deferred[None] = Deferred()
        timer = self._reactor.callLater(begin - now, waiting.callback, None)
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """Let no further file move: what waits for its turn is for the next run."""
        self._stopped = True
        for waiting in list(self._waiting):
            if not waiting.called:  # What ends with one of them may call this again.
                waiting.errback(NotBegunError())
