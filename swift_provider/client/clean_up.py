"""The time limit on what a failed upload does last: it looks what Swift has, and removes it.

Each request has limits of its own, but a large file has a thousand segments.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime

from swift_provider.errors import Target, TimedOutError

Result = TypeVar("Result")

CLEAN_UP_SECONDS = 90.0
#: Something waits for a cancelled upload to end, such as the homeserver's shutdown. What is
#: left over can be removed later.
CANCELLED_CLEAN_UP_SECONDS = 10.0


async def clean_up(
    clock: IReactorTime,
    target: Target,
    error: Exception,
    work: Coroutine[Deferred[Any], Any, Result],
) -> Result:
    """Wait for ``work``, but not for long.

    :param target: for the error.
    :param error: which ended the upload.
    :raises TimedOutError: if the time is up; ``work`` is cancelled then.
    """
    cancelled = isinstance(error, CancelledError)
    limit = CANCELLED_CLEAN_UP_SECONDS if cancelled else CLEAN_UP_SECONDS
    try:
        return await ensureDeferred(work).addTimeout(limit, clock)
    except DeferredTimeoutError:
        raise target.error(TimedOutError, f"not done within {limit:g} seconds") from None
