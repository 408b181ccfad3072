"""One request to Swift for all coroutines that want the same file at the same time.

A picture in a busy room is asked for by every client within a second. Only what is small
can be shared: of a large file the first coroutine gets the stream, and each of the others
needs a request of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from synapse.logging.context import current_context
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from swift_provider.client import Asking, Download, WholeDownload
from swift_provider.module.log_context import begin_for_callers

#: What is asked for: a file, or only an object's facts.
Wanted = TypeVar("Wanted")


class SharedDownload(Generic[Wanted]):
    """The request, from the first coroutine that waits for it to its end.

    :param ask: sends the request. It runs in no particular log context, and its log lines
        get that of a coroutine which still waits.
    :param ended: called when nobody may join any more. May be called more than once.
    :param asking: has to be told what it is doing.
    :ivar asking: as given.
    :ivar is_shared: more than one coroutine has joined it.
    """

    def __init__(
        self,
        ask: Callable[[SharedDownload[Wanted]], Coroutine[Any, Any, Wanted]],
        ended: Callable[[SharedDownload[Wanted]], None],
        asking: Asking,
    ) -> None:
        self.asking = asking
        self.is_shared = False
        self._ask = ask
        self._ended = ended
        #: The coroutines that wait, each with its log context. The longest wait comes first.
        self._waiting: dict[Deferred[Wanted | None], Any] = {}
        #: The log contexts of those, and at the end that of the coroutine which gets the
        #: stream: what the stream logs later, for example when it is resumed, is about it.
        self._callers: dict[Deferred[Wanted | None], Any] = {}
        self._running: Deferred[None] | None = None

    async def join(self) -> Wanted | None:
        """Wait for the request, which the first call begins.

        Cancelling this only ends this wait; if nothing else waits, it cancels the request.

        :returns: the facts, or a download of the caller's own; ``None`` if the file is
            large, and another caller has the stream.
        :raises Exception: what ``ask`` raised, for each caller its own exception.
        """
        waiter: Deferred[Wanted | None] = Deferred(self._leave)
        self._waiting[waiter] = self._callers[waiter] = current_context()
        if self._running is None:
            asked = begin_for_callers(self._callers.values(), self._ask, self)
            self._running = asked.addBoth(self._end)
        else:
            self.is_shared = True
        return await waiter

    def _leave(self, waiter: Deferred[Wanted | None]) -> None:
        del self._waiting[waiter], self._callers[waiter]
        if not self._waiting and self._running is not None:
            self._ended(self)
            self._running.cancel()

    def _end(self, result: Wanted | Failure) -> None:
        self._ended(self)
        is_taken = False
        while self._waiting:  # a coroutine that is woken may cancel another
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            if is_taken or not isinstance(result, Download):
                del self._callers[waiter]
            if isinstance(result, Failure):
                waiter.errback(_another_failure(result) if is_taken else result)
            else:
                waiter.callback(_another(result) if is_taken else result)
            is_taken = True
        if isinstance(result, Download) and not is_taken:
            result.abandon()  # the request ended although it was cancelled


def _another(result: Any) -> Any:
    """What the next caller gets; ``None`` if only one can have the result."""
    if isinstance(result, WholeDownload):
        return WholeDownload(result.info, result.content)
    return None if isinstance(result, Download) else result


def _another_failure(failure: Failure) -> Failure:
    """The same error as another exception.

    Each ``raise`` adds to an exception's traceback, so that coroutines which share one would
    log each other's.
    """
    error: Any = failure.value
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error
    return Failure(copy)
