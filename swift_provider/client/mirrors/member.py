"""One place of a mirror set: asks it, and notes whether it works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.asking import Asking, give_up
from swift_provider.client.mirrors.breaker import OF_THE_PLACE, Background, Breaker
from swift_provider.client.mirrors.moments import not_later
from swift_provider.client.observer import Progress
from swift_provider.client.place import Place
from swift_provider.errors import (
    ContainerNotFoundError,
    InsufficientStorageError,
    KeptError,
    ObjectNotFoundError,
    ObjectUnclearError,
    SwiftProviderError,
    Target,
    TemporaryError,
    TimedOutError,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: How long a place may take to answer a request while another place can be asked. The time
#: that it waits for a slot does not count. Less than what the module waits for a HEAD.
ANSWER_SECONDS = 2.0
LOOK_SECONDS = 0.25
#: If none answered in time, each may take so many times as long in the next round.
MORE_PATIENCE = 4.0

#: After this many uploads failed in a row, none is tried for a while: at first, at most.
MOST_FAILED_WRITES = 3
FIRST_WRITE_PAUSE_SECONDS = 10.0
LONGEST_WRITE_PAUSE_SECONDS = 300.0

#: What a probe asks for. There is no such object, and "no" is a good answer.
PROBE_PATH = ".swift_provider/probe"


class Member:
    """One place of a set.

    :ivar place: as given.
    :ivar breaker: opens when the place fails.
    :ivar on_change: called when the breaker has opened or closed.
    :ivar writes: how many uploads and copies succeeded.
    """

    def __init__(self, place: Place, clock: Any, background: Background) -> None:
        self.place = place
        self.breaker = Breaker(clock, self._probe, background, self._breaker_changed)
        self.on_change: Callable[[], object] = lambda: None
        self.writes = 0
        self._clock = clock
        #: The requests that are given up if they take too long.
        self._impatient: dict[Deferred[Any], tuple[Asking, float]] = {}
        self._look: Any = None
        self._failed_writes = 0
        self._write_pause = FIRST_WRITE_PAUSE_SECONDS
        self._no_writes_since: float | None = None

    @property
    def name(self) -> str:
        """The place's."""
        return self.place.name

    @property
    def works(self) -> bool:
        """Whether it is worth asking."""
        return not self.breaker.is_open

    # Asking

    async def ask(
        self,
        path: str,
        operation: Callable[[Progress], Coroutine[Any, Any, Result]],
        progress: Progress | None = None,
    ) -> Result:
        """Do something with an object, and note it if the place fails.

        :param progress: is told what this is doing.
        :raises ObjectNotFoundError: if there is no such object here.
        :raises SwiftProviderError: if it failed; the error names this member.
        """
        try:
            return await operation(progress or Progress())
        except ObjectNotFoundError:
            self.breaker.succeeded()
            raise
        except SwiftProviderError as error:
            self.failed(error)
            raise

    async def ask_briefly(
        self,
        path: str,
        operation: Callable[[Progress], Coroutine[Any, Any, Result]],
        progress: Progress | None = None,
        patience: float = 1.0,
    ) -> Result:
        """The same, but give up after a while, and as soon as the breaker opens: another place
        can be asked.

        :param patience: times :data:`ANSWER_SECONDS`.
        :raises TimedOutError: if it took too long.
        """
        asking = Asking(self._clock, progress)
        waiting = ensureDeferred(self.ask(path, operation, asking))
        seconds = ANSWER_SECONDS * patience
        self._impatient[waiting] = (asking, seconds)
        if self._look is None:
            self._look = self._clock.callLater(LOOK_SECONDS, self._look_for_late)
        else:
            self._look = not_later(self._look, self._clock, LOOK_SECONDS)
        try:
            return await waiting
        except CancelledError:
            if waiting in self._impatient:
                raise  # the caller's
            if not self.works:
                raise self.unreachable(path) from None
            late = self._late(path, seconds, asking)
            self.failed(late)
            raise late from None
        finally:
            self._impatient.pop(waiting, None)

    async def look(self, path: str) -> ObjectInfo | None:
        """The facts of an object by all replicas, for work in the background.

        :returns: ``None`` if there is no such object here.
        :raises SwiftProviderError: if it failed; see :meth:`fails_too`.
        """
        try:
            return await self.place.head(path, newest=True)
        except ObjectNotFoundError:
            self.breaker.succeeded()
            return None
        except SwiftProviderError as error:
            self._named(error)
            raise

    async def fails_too(self, error: SwiftProviderError) -> bool:
        """Whether the place, which failed with one object, fails with another one, too.

        Only then its breaker counts it. Work in the background asks for many objects. If some
        of them cannot be read, readers must still get the others here.

        :param error: what happened; gets the name of the place.
        """
        self._named(error)
        if isinstance(error, KeptError):
            return False
        try:
            await self._probe()
        except SwiftProviderError as failed:
            self.failed(failed)
            return True
        return False

    def _look_for_late(self) -> None:
        """One timer for all requests: one for each would cost a tenth of a small download."""
        self._look = None
        for waiting, (asking, seconds) in list(self._impatient.items()):
            if asking.unanswered() >= seconds:
                self._give_up(waiting)
        if self._impatient and self._look is None:
            self._look = self._clock.callLater(LOOK_SECONDS, self._look_for_late)

    def _give_up(self, waiting: Deferred[Any]) -> None:
        if self._impatient.pop(waiting, None) is not None:
            waiting.cancel()

    # Errors

    def failed(self, error: SwiftProviderError) -> None:
        """The place failed. The error gets its name."""
        self._named(error)
        self.breaker.failed(error)

    def body_broke(self, path: str, error: SwiftProviderError) -> None:
        """A download broke off here."""
        self._named(error)
        self.breaker.body_broke(path, error)

    def unreachable(self, path: str) -> SwiftProviderError:
        """The error for an object that was not asked for, because the breaker is open."""
        why = "" if self.breaker.error is None else f": {self.breaker.error.text()}"
        return self.error(path, f"not asked, because this place fails{why}")

    def error(
        self, path: str, reason: str, kind: type[TemporaryError] = TemporaryError
    ) -> SwiftProviderError:
        """An error about an object here."""
        name = self.place.object_name(path)
        return self._named(Target("GET", self.place.container, name).error(kind, reason))

    def _late(self, path: str, seconds: float, asking: Asking) -> SwiftProviderError:
        reason = f"no answer within {seconds:g} seconds"
        if asking.answered:
            reason = f"Swift says that there is no such object; {reason} to the next question"
            return self.error(path, reason, ObjectUnclearError)
        return self.error(path, reason, TimedOutError)

    def _named(self, error: SwiftProviderError) -> SwiftProviderError:
        error.mirror = error.mirror or self.name
        return error

    # Writing

    def may_write(self) -> bool:
        """Whether to upload a file now. After a pause one upload tries, for all."""
        since = self._no_writes_since
        if since is None:
            return True
        now = self._clock.seconds()
        if 0 <= now - since < self._write_pause:
            return False
        self._no_writes_since = now
        self._write_pause = min(2 * self._write_pause, LONGEST_WRITE_PAUSE_SECONDS)
        return True

    def written(self) -> None:
        """An upload or a copy succeeded."""
        self.writes += 1
        self.breaker.succeeded()
        if self._no_writes_since is not None:
            logger.info("Uploads to Swift %s work again", self.name)
        self._failed_writes = 0
        self._no_writes_since = None
        self._write_pause = FIRST_WRITE_PAUSE_SECONDS

    def not_written(self, error: SwiftProviderError) -> None:
        """An upload failed."""
        if not isinstance(error, (*OF_THE_PLACE, InsufficientStorageError)):
            return  # the file's fault, perhaps
        self._failed_writes += 1
        if self._failed_writes >= MOST_FAILED_WRITES and self._no_writes_since is None:
            self._no_writes_since = self._clock.seconds()
            logger.warning("Uploads to Swift %s fail, so it gets files later: %s", self.name, error)

    # The breaker

    async def stop(self) -> None:
        """Probe no more."""
        look, self._look = self._look, None
        if look is not None:
            look.cancel()
        await self.breaker.stop()

    async def _probe(self) -> None:
        asking = Asking(self._clock)
        head = ensureDeferred(self.place.head(PROBE_PATH, retry=False, progress=asking))
        try:
            await give_up(head, ANSWER_SECONDS, asking.unanswered, self._clock)
        except (ObjectNotFoundError, ObjectUnclearError):
            pass
        except ContainerNotFoundError:
            # An upload would make it, but none comes while the breaker is open.
            if not self.place.creates_container:
                raise
            await self.place.create()
        except DeferredTimeoutError:
            late = self._late(PROBE_PATH, ANSWER_SECONDS, asking)
            if not isinstance(late, ObjectUnclearError):
                raise late from None

    def _breaker_changed(self) -> None:
        if self.works:
            logger.info("Swift %s works again", self.name)
        else:
            logger.warning(
                "Swift %s fails: it is left out until it works again (%s)",
                self.name,
                self.breaker.error,
            )
            for waiting in list(self._impatient):
                self._give_up(waiting)
        self.place.observer.reachable(self.works)
        self.on_change()


def soonest(errors: list[SwiftProviderError]) -> SwiftProviderError:
    """The error after which a retry is worth it the soonest; the first if none is."""
    temporary = [error for error in errors if error.temporary]
    return min(
        temporary or errors[:1], key=lambda error: getattr(error, "retry_after", None) or 0.0
    )
