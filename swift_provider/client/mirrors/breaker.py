"""A circuit breaker: while a place fails, nobody waits for it.

======== =====================================================================
closed   the place is asked: :data:`MOST_FAILURES` failures in a row → open
open     the place is not asked, but for a probe now and then: its success → closed
======== =====================================================================

A place may answer the probe and fail all else. So the pauses between the probes go on
growing, unless the breaker has been closed for a while.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from swift_provider.client.mirrors.moments import ended, not_later
from swift_provider.errors import (
    AccessDeniedError,
    AuthError,
    ConfigError,
    ConnectionFailedError,
    ContainerNotFoundError,
    ServerBusyError,
    SwiftProviderError,
    TimedOutError,
    UntrustedServerError,
)

logger = logging.getLogger(__name__)

#: Failures in a row, without a success in between, that open the breaker.
MOST_FAILURES = 3

#: The pause before the first probe, and the longest one.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0

#: After this long without a failure in a row, the pauses begin anew.
STEADY_SECONDS = 60.0

#: Failures of the place itself. Others are those of one object, or of one file. A file that a
#: setting names, such as cacert, may be missing for a moment while it is being replaced.
OF_THE_PLACE = (
    ServerBusyError,
    ConnectionFailedError,
    TimedOutError,
    AuthError,
    AccessDeniedError,
    ContainerNotFoundError,
    UntrustedServerError,
    ConfigError,
)

#: Starts work that nobody waits for: its name, and what makes the coroutine.
Background = Callable[[str, Callable[[], Coroutine[Any, Any, None]]], object]


def begin(background: Background, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Start such work. A user's request goes on if it cannot start.

    :returns: whether it has begun. A homeserver that is shut down begins nothing any more.
    """
    try:
        background(name, work)
    except Exception as error:
        logger.warning("%s cannot begin: %s", name, error)
        return False
    return True


class Breaker:
    """The breaker of one place.

    :param probe: asks the place for something small.
    :param background: runs the probes.
    :param changed: called when the breaker has opened or closed.
    :ivar error: the latest failure of the place; ``None`` before the first.
    """

    def __init__(
        self,
        clock: Any,
        probe: Callable[[], Coroutine[Any, Any, None]],
        background: Background,
        changed: Callable[[], object],
    ) -> None:
        self.error: SwiftProviderError | None = None
        self._clock = clock
        self._probe = probe
        self._background = background
        self._changed = changed
        self._failures = 0
        #: The objects whose bodies broke since a body last came to its end.
        self._broken: set[str] = set()
        self._pause = self._waits = FIRST_PAUSE_SECONDS
        self._closed_at = float("-inf")
        self._is_open = False
        self._stopped = False
        self._call: Any = None
        self._probing: Deferred[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the place is not asked."""
        if self._is_open:
            self._call = not_later(self._call, self._clock, self._waits)
        return self._is_open

    def succeeded(self) -> None:
        """The place answered."""
        self._failures = 0

    def delivered(self) -> None:
        """A body came to its end."""
        self._failures = 0
        self._broken.clear()

    def failed(self, error: SwiftProviderError) -> None:
        """The place failed; an error that is not the place's is ignored."""
        if not isinstance(error, OF_THE_PLACE):
            return
        self.error = error
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            self._open()

    def body_broke(self, path: str, error: SwiftProviderError) -> None:
        """A body did not come to its end. One object alone may be damaged."""
        self._broken.add(path)
        if len(self._broken) >= MOST_FAILURES:
            self.error = error
            self._open()

    def probe_now(self) -> None:
        """Probe soon: no other place is left."""
        if self._is_open and self._call is not None:
            soon = random.uniform(0.5, 1.0)
            self._call = not_later(self._call, self._clock, 1.0, soon)

    async def stop(self) -> None:
        """Probe no more, and wait until a probe in flight has ended."""
        self._stopped = True
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        probing = self._probing
        if probing is not None:
            probing.cancel()
            await ended(probing)

    def _open(self) -> None:
        if self._is_open or self._stopped:
            return
        if self._clock.seconds() - self._closed_at > STEADY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        self._is_open = True
        self._schedule()
        self._changed()

    def _schedule(self) -> None:
        self._waits = self._pause * random.uniform(0.75, 1.0)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._call = self._clock.callLater(self._waits, self._begin_probe)

    def _begin_probe(self) -> None:
        self._call = None
        if not begin(self._background, "swift_probe", self._look):
            self._schedule()

    async def _look(self) -> None:
        self._probing = ensureDeferred(self._probe())
        try:
            await self._probing
        except CancelledError:
            return
        except Exception as error:
            if isinstance(error, SwiftProviderError):
                self.error = error
            else:
                logger.exception("A probe failed")
            if not self._stopped:
                self._schedule()
            return
        finally:
            self._probing = None
        self._failures = 0
        self._broken.clear()
        self._closed_at = self._clock.seconds()
        self._is_open = False
        self._changed()
