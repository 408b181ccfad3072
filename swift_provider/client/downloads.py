"""A body on its way from Swift to a consumer.

Twisted's push producer, with true back-pressure: a consumer that pauses stops
the reading from the connection. What the consumer gets is counted and hashed;
a body that breaks or falls silent goes on with another request from where it
stopped, for as long as each request gets further.

======== ==================================================================
state    meaning, and what leads out of it
======== ==================================================================
OPEN     headers are in, nobody has asked for the body: *deliver* → FLOWING,
         a few seconds → PARKED
FLOWING  bytes go to the consumer: *pause* → PAUSED, the end → DONE,
         a break → REOPENING
PAUSED   connection and slot are held, nothing is read: *resume* → FLOWING in
         its turn, a few seconds → PARKED, a break → PARKED
PARKED   connection and slot were given back: *deliver*, *resume* → REOPENING
REOPENING a request for the rest is under way: its answer → FLOWING or PAUSED
DONE     every byte was delivered and was right
FAILED   it cannot be completed
STOPPED  the consumer went away, or nobody wanted the body
======== ==================================================================

The last three are final; entering one gives back all that is held, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.checksum import Checksum
from swift_provider.client.http.exchange import Exchange, Target
from swift_provider.client.http.watchdog import Watchdog
from swift_provider.client.observer import Observer
from swift_provider.client.retry import Tries
from swift_provider.client.turns import Turns
from swift_provider.errors import (
    ConsumerStoppedError,
    DamagedError,
    SwiftError,
    SwiftProviderError,
)

#: A consumer that stays paused for so long gives its connection and slot back.
PARK_SECONDS = 5.0


class Download(ABC):
    """What :meth:`~swift_provider.client.SwiftClient.get_object` returns.

    Call :meth:`deliver` or :meth:`abandon`; the latter also after the former,
    to no effect if the download is over.

    :ivar info: the object's facts; ``info.size`` is the length of the body.
    """

    info: ObjectInfo

    @abstractmethod
    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """Write the body to ``consumer``, as its registered push producer. Call once.

        :returns: fires once every byte was written and was right. Fails with
            :class:`~swift_provider.errors.ConsumerStoppedError` if the consumer stops
            it, with :class:`~swift_provider.errors.SwiftError` if it cannot be
            completed, or with what the consumer itself raised. The producer is
            unregistered in each case. Cancelling it abandons the download.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Nobody wants the body (any more): give everything back. May be called twice."""


@implementer(IPushProducer)
class WholeDownload(Download):
    """A small body, which is here already, and right."""

    def __init__(self, info: ObjectInfo, content: bytes) -> None:
        self.info = info
        self._content = content
        self._abandoned = False
        self._stopped = False

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """See :class:`Download`."""
        done: Deferred[None] = Deferred()
        if self._abandoned:
            done.errback(ConsumerStoppedError("the download was abandoned"))
            return done
        try:
            consumer.registerProducer(self, True)
            try:
                if not self._stopped:
                    consumer.write(self._content)
            finally:
                consumer.unregisterProducer()
        except Exception:
            done.errback(Failure())
            return done
        if self._stopped:
            done.errback(ConsumerStoppedError("the consumer stopped the download"))
        else:
            done.callback(None)
        return done

    def abandon(self) -> None:
        """See :class:`Download`."""
        self._abandoned = True
        self._content = b""

    def pauseProducing(self) -> None:
        """The one write is made at once, or was made."""

    def resumeProducing(self) -> None:
        """Nothing is left to produce."""

    def stopProducing(self) -> None:
        """The consumer is gone."""
        self._stopped = True


class State(Enum):
    """See the module's description."""

    OPEN = "open"
    FLOWING = "flowing"
    PAUSED = "paused"
    PARKED = "parked"
    REOPENING = "reopening"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def final(self) -> bool:
        """Nothing leads out of this state."""
        return self in (State.DONE, State.FAILED, State.STOPPED)


#: Asks for the body from an offset on: given the offset and the tries left.
#: The exchange that it returns may begin earlier, at the second value.
Reopen = Callable[[int, Tries], Awaitable["tuple[Exchange, int]"]]


@implementer(IPushProducer)
class StreamedDownload(Download):
    """A body that comes through a connection.

    :param exchange: answered, its body untouched; belongs to the download.
    :param checksum: what the whole body is checked with.
    :param reopen: requests the rest.
    :param tries: how often to go on without getting further.
    :param turns: shared by all downloads on this reactor; each goes on in its own.
    :param clock: the reactor, or a clock in its place.
    """

    def __init__(
        self,
        info: ObjectInfo,
        target: Target,
        exchange: Exchange,
        checksum: Checksum,
        reopen: Reopen,
        tries: Tries,
        turns: Turns,
        clock: Any,
        observer: Observer,
    ) -> None:
        self.info = info
        self.state = State.OPEN
        self._target = target
        self._exchange: Exchange | None = exchange
        self._checksum = checksum
        self._reopen = reopen
        self._tries = tries
        self._turns = turns
        self._clock = clock
        self._observer = observer
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None
        self._position = 0
        self._broken_at = -1  # that the headers came is progress, too
        self._skip = 0
        self._wanted = False
        self._reopening: Deferred[None] | None = None
        self._sleep = Watchdog(clock, self._park)
        self._sleep.watch(PARK_SECONDS, "nothing was wanted")

    # What the consumer does

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """See :class:`Download`."""
        assert self._consumer is None, "a download is delivered once"
        done: Deferred[None] = Deferred(lambda _: self.abandon())
        self._done = done
        if self.state.final:
            self._done = None
            done.errback(ConsumerStoppedError("the download was abandoned"))
            return done
        self._wanted = True
        self._consumer = consumer
        try:
            consumer.registerProducer(self, True)
        except Exception:
            self._consumer = None
            self._finish(State.FAILED, Failure())
            return done
        if self._wanted and not self.state.final:
            self._flow()
        return done

    def pauseProducing(self) -> None:
        """The consumer has enough for now."""
        self._wanted = False
        if self.state is State.FLOWING:
            self._enter(State.PAUSED)
            assert self._exchange is not None
            self._exchange.pause()
            self._sleep.watch(PARK_SECONDS, "nothing was wanted")

    def resumeProducing(self) -> None:
        """The consumer wants more."""
        self._wanted = True
        self._flow()

    def stopProducing(self) -> None:
        """The consumer is gone."""
        stopped = ConsumerStoppedError("the consumer stopped the download")
        self._finish(State.STOPPED, Failure(stopped))

    def abandon(self) -> None:
        """See :class:`Download`."""
        abandoned = ConsumerStoppedError("the download was abandoned")
        self._finish(State.STOPPED, Failure(abandoned))

    # Connection and slot

    def _flow(self) -> None:
        """Let bytes come, in whatever way this state needs."""
        if self.state is State.PAUSED:
            self._turns.take(self._go_on)
        elif self.state is State.OPEN:
            self._enter(State.FLOWING)
            assert self._exchange is not None
            self._exchange.stream(self)
        elif self.state is State.PARKED:
            self._tries.refill()
            self._enter(State.REOPENING)
            self._begin_reopening(None)

    def _go_on(self) -> None:
        """The turn has come; meanwhile the consumer may have changed its mind."""
        if not self._wanted:
            return
        if self.state is State.PAUSED:
            self._enter(State.FLOWING)
            assert self._exchange is not None
            self._exchange.resume()
        elif self.state is State.PARKED:  # while it waited for its turn
            self._flow()

    def _park(self, _why: str) -> None:
        """The consumer sleeps: let others have the connection and the slot."""
        self._enter(State.PARKED)
        self._let_go()

    def _let_go(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    def _broke(self, error: SwiftError) -> None:
        self._let_go()
        if self._position > self._broken_at:
            self._broken_at = self._position
            self._tries.refill()
        if self.state is State.PAUSED:
            self._enter(State.PARKED)
            return
        self._enter(State.REOPENING)
        self._begin_reopening(error)

    def _begin_reopening(self, error: SwiftError | None) -> None:
        self._reopening = ensureDeferred(self._request_the_rest(error))
        self._reopening.addErrback(self._not_reopened)

    async def _request_the_rest(self, error: SwiftError | None) -> None:
        if error is not None:
            delay = self._tries.delay_after(error)
            if delay is None:
                raise error
            self._observer.retried(error)
            await self._pause_for(delay)
        exchange, begins = await self._reopen(self._position, self._tries)
        self._reopening = None
        self._observer.resumed()
        self._skip = self._position - begins
        self._exchange = exchange
        self._enter(State.FLOWING)
        exchange.stream(self)
        if not self._wanted:
            self.pauseProducing()

    async def _pause_for(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(seconds, waiting.callback, None)
        await waiting

    def _not_reopened(self, failure: Failure) -> None:
        self._reopening = None
        error = failure.value
        if self.info.size is None and isinstance(error, SwiftError) and error.status == 416:
            # A body of unknown length broke off just where it ends.
            self._finish_checked()
        else:
            self._finish(State.FAILED, failure)

    # What comes through the connection

    def chunk_received(self, data: bytes) -> None:
        """A piece of the body."""
        if self.state.final:
            return
        self._observer.received(len(data))
        if self._skip:
            skipped, self._skip = data[: self._skip], max(0, self._skip - len(data))
            data = data[len(skipped) :]
        if not data:
            return
        self._position += len(data)
        self._checksum.update(data)
        assert self._consumer is not None
        try:
            self._consumer.write(data)
        except Exception:
            self._finish(State.FAILED, Failure())

    def body_ended(self, error: SwiftError | None) -> None:
        """The connection has no more to give."""
        if self.state.final:
            return
        size = self.info.size
        if error is None and size is not None and self._position < size:
            error = self._target.error(
                DamagedError, f"the body ended after {self._position} of {size} bytes"
            )
        if error is not None and (size is None or self._position < size):
            self._broke(error)
        else:
            self._finish_checked()

    def _finish_checked(self) -> None:
        """Nothing is missing: is it right?"""
        if self.info.size in (None, self._position) and self._checksum.right():
            self._finish(State.DONE, None)
            return
        wrong = self._target.error(
            DamagedError, f"the {self._position} bytes that came are not the object's"
        )
        self._finish(State.FAILED, Failure(wrong))

    # States

    def _enter(self, state: State) -> None:
        if state is State.PARKED or state.final:
            self._sleep.stop()
        else:
            self._sleep.rest()
        self.state = state

    def _finish(self, state: State, failure: Failure | None) -> None:
        if self.state.final:
            return
        self._enter(state)
        self._let_go()
        reopening, self._reopening = self._reopening, None
        if reopening is not None:
            reopening.cancel()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.unregisterProducer()
            except Exception:
                failure = failure or Failure()
        done, self._done = self._done, None
        if done is None:
            return
        if failure is None:
            done.callback(None)
            return
        if isinstance(failure.value, SwiftProviderError):
            self._observer.failed(failure.value)
        done.errback(failure)
