"""Several workers of one operation, which share its work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.python.failure import Failure

#: How many segments of one file are worked on at once. Four fill a connection to the
#: cluster and leave slots to other files.
SEGMENTS_AT_ONCE = 4


async def together(work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
    """Start ``work`` :data:`SEGMENTS_AT_ONCE` times, and wait until all of them have ended.

    The first failure cancels the others, and is raised.

    :param work: takes one segment after the other from what the workers share.
    """
    workers = [ensureDeferred(work()) for _ in range(SEGMENTS_AT_ONCE)]

    def cancel_the_others(failure: Failure) -> Failure:
        for worker in workers:
            worker.cancel()
        return failure

    for worker in workers:
        worker.addErrback(cancel_the_others)
    ended: list[tuple[bool, Any]] = await DeferredList(workers, consumeErrors=True)
    failures: list[BaseException] = [outcome.value for right, outcome in ended if not right]
    for failure in failures:
        if not isinstance(failure, CancelledError):
            raise failure
    if failures:
        raise failures[0]
