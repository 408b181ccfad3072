"""Decides what happens next: one call of a job at a time, in a random order.

Each request to the store and each call in a thread waits here for its turn. So a seed
decides how the files in flight interleave, and a job can be killed between any two calls.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from swift_provider.errors import AuthError

#: A job of a model has some hundred calls; more mean that it goes round in circles.
MOST_TURNS = 20_000


class Turns:
    """The calls of one job.

    :ivar dead: the process was killed.
    """

    def __init__(self, rng: Random) -> None:
        self.dead = False
        self._rng = rng
        self._pending: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def call(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call a function once it is its turn; fires with its result."""
        if self.dead:
            return fail(AuthError("the process is dead"))
        result: Deferred[Any] = Deferred()
        self._pending.append((result, function, arguments))
        return result

    # The interface of Threads
    run = call

    def stop(self) -> None:
        """There are no threads to end."""

    def take(self, ended: Deferred[Any], between: Callable[[int], bool]) -> bool:
        """Give turns until a job has ended.

        :param between: called before each turn with its number; ``False`` to kill the job.
        :returns: whether the job ended by itself.
        """
        for number in range(MOST_TURNS):
            if ended.called:
                return True
            assert self._pending, "the job waits for nothing"
            if not between(number):
                self.dead = True
                return False
            self._take_one()
        raise AssertionError("the job does not end")

    def _take_one(self) -> None:
        result, function, arguments = self._pending.pop(self._rng.randrange(len(self._pending)))
        try:
            value = function(*arguments)
        except Exception:
            result.errback(Failure())
        else:
            result.callback(value)

    def bury(self) -> None:
        """Unwind a killed job, when its traces are not looked at any more."""
        self.dead = True
        while self._pending:
            result, _, _ = self._pending.pop()
            result.errback(AuthError("the process is dead"))
