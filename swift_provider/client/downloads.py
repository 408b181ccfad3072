"""The GET of an object, from the request to the last proven byte.

:func:`begin_download` asks for the object. A small one is fetched whole and checked
before anything is delivered. A larger one is delivered as it comes: a Twisted push
producer with back-pressure, so that a consumer that pauses stops the reading from the
connection. What the consumer gets is counted and hashed, and it does not get the last bytes
before the checksum is right: a wrong file never looks complete to a client that knows its
length. Where the object's size is not known, the latest chunk is held back, because it may be
the last, and because the body may turn out to have another length than the client was told. A
body that breaks or falls silent is resumed by another request from where it stopped, as long
as each request gets further. Of a part of an object only the length is checked: the checksum
is of the whole.

======== ==================================================================
state    meaning, and what leads out of it
======== ==================================================================
OPEN     the headers are in, the body was not asked for: *deliver* → FLOWING,
         a few seconds, or *deliver* of a part that begins later → PARKED
FLOWING  bytes go to the consumer: *pause* → PAUSED, the end → DONE,
         a break → REOPENING
PAUSED   connection and slot are held, nothing is read: *resume* → FLOWING in
         its turn, a few seconds → PARKED (a quarter of a second if another
         exchange needs the slot), a break → PARKED
PARKED   connection and slot are released: *deliver*, *resume* → REOPENING
REOPENING a request for the rest is in flight: its response → FLOWING or PAUSED
DONE     every byte was delivered and was right
FAILED   it cannot be completed
STOPPED  the consumer went away, or the download was abandoned
======== ==================================================================

The last three are final. Entering one releases everything that is held, once.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import copy_context
from enum import Enum
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from swift_provider.client.answers import ObjectInfo, header, normal_etag, object_info
from swift_provider.client.checksum import (
    Checksum,
    NotedChecksum,
    PlainChecksum,
    delivery_check_for,
    proof_for,
)
from swift_provider.client.doubts import Doubts
from swift_provider.client.download_turns import Turns
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.http.time_limit import TimeLimit
from swift_provider.client.large_objects import LargeObjects
from swift_provider.client.object_bodies import check_unchanged, check_whole, first_byte
from swift_provider.client.observer import Observer, Progress
from swift_provider.client.request import Request, TakeSlot
from swift_provider.client.requester import Requester
from swift_provider.client.retry import Tries
from swift_provider.errors import (
    ConsumerStoppedError,
    DamagedError,
    ObjectChangedError,
    RequestRefusedError,
    SlowError,
    SwiftError,
    SwiftProviderError,
    Target,
    WrongLengthError,
)

logger = logging.getLogger(__name__)

#: A body up to this size is fetched whole and checked before anything is delivered.
WHOLE_BYTES = 64 * 1024

#: After a pause of this length the download releases its connection and slot.
PARK_SECONDS = 5.0

#: After a pause of this length it does so if another exchange waits for a slot. A client
#: on a fast line makes Synapse pause for milliseconds at a time: to park a download for
#: that would cost a request for each few chunks.
OFFER_SECONDS = 0.25

#: Where the rest may come from another place: a body of which fewer bytes come in this time,
#: although the consumer wants more, counts as broken.
SLOW_SECONDS = 10.0
SLOW_BYTES = 40 * 1024


class Download(ABC):
    """An object on its way to a consumer.

    Call :meth:`deliver` or :meth:`abandon`. :meth:`abandon` may also be called after
    :meth:`deliver`, and does nothing if the download is over.

    :ivar info: the object's facts; ``info.size`` is the length of the body.
    :ivar checked: whether the bytes are compared with a checksum; ``False`` if only their
        number can be.
    """

    info: ObjectInfo
    checked: bool

    @abstractmethod
    def deliver(
        self, consumer: IConsumer, part: range | None = None, announced: int | None = None
    ) -> Deferred[None]:
        """Write the body to ``consumer``, as its registered push producer. Call once.

        :param part: the positions of the bytes to write, at least one, in an object whose
            size is known; ``None`` for all.
        :param announced: the length that the consumer expects of an object whose size is
            not known. If the body has another, the consumer gets fewer bytes than that, and
            :class:`~swift_provider.errors.WrongLengthError` is the result.
        :returns: fires once every byte was written and was right. Fails with
            :class:`~swift_provider.errors.ConsumerStoppedError` if the consumer stops
            it, with :class:`~swift_provider.errors.SwiftError` if it cannot be
            completed, or with what the consumer itself raised. The producer is
            unregistered in each case. Cancelling it abandons the download.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Release everything; the body is not wanted (any more). May be called twice."""


async def begin_download(
    requester: Requester,
    turns: Turns,
    large_objects: LargeObjects,
    doubts: Doubts,
    container: str,
    name: str,
    *,
    prove: bool = False,
    retry: bool = True,
    progress: Progress | None = None,
) -> Download:
    """Ask for an object.

    :param doubts: is told if the noted CRC-32 is wrong. An object that is in there is checked
        by Swift's own ETag.
    :param prove: check by Swift's own ETag, where it can prove the bytes.
    :param retry: what is worth a retry. A download that has begun resumes in any case.
    :param progress: is told what this is doing.
    :returns: once the headers are in (for a small object, once all of it is), with a
        download that must be delivered or abandoned.
    :raises ObjectNotFoundError: if Swift says 404 for the object, and for nothing else.
    :raises SwiftProviderError: if it failed for good.
    """
    tries = requester.new_tries(progress, retry=retry)
    request = Request("GET", container, name)

    async def open_or_read(
        exchange: Exchange,
    ) -> WholeDownload | tuple[ObjectInfo, Checksum | None, Exchange]:
        check_whole(exchange)
        info = object_info(name, exchange.headers, exchange.length)
        checksum = proof_for(info) if prove or info in doubts else delivery_check_for(info)
        check_unchanged(exchange, info, provable=checksum is not None)
        if not info.is_plain or info.size is None or info.size > WHOLE_BYTES:
            exchange.keep()
            return info, checksum, exchange
        content = await exchange.read(WHOLE_BYTES)
        requester.observer.received(len(content))
        assert checksum is not None
        _check_content(exchange, info, content, checksum, doubts)
        return WholeDownload(info, content)

    begun = await requester.perform(request, open_or_read, tries=tries)
    if isinstance(begun, WholeDownload):
        return begun
    info, checksum, exchange = begun
    rest = Rest(requester, container, info)
    if checksum is None and info.static_large:
        # Another program uploaded it, so the manifest has to be read first. Release the
        # slot for that: a coroutine that waits for a second slot may wait for ever.
        exchange.close()
        tries.progress.request_ended()
        checksum = await large_objects.proof(container, info, tries.progress)
        tries.progress.request_ended()
        exchange, _ = await rest.request(0, tries)
    checksum = checksum or delivery_check_for(info)
    resuming = requester.new_tries(progress)
    download = StreamedDownload(info, exchange, checksum, rest, resuming, turns, requester.clock)
    if isinstance(checksum, NotedChecksum):
        download.on_wrong = partial(doubts.add, info)
    return download


async def begin_part(
    requester: Requester,
    turns: Turns,
    rest: Rest,
    info: ObjectInfo,
    part: range,
    checksum: Checksum,
    idle_seconds: float,
) -> Download:
    """Ask for a part of an object whose facts are known, or for all of it.

    :param rest: requests the part, and what is left of it after a break.
    :param part: at least one byte.
    :param checksum: of this part. It does not get its last bytes before that is right.
    :param idle_seconds: the longest silence of the body.
    :returns: as :func:`begin_download`.
    :raises ObjectChangedError: if it is not the same object any more.
    :raises ObjectNotFoundError: if it is gone.
    :raises SwiftProviderError: if it failed for good.
    """
    tries = requester.new_tries()
    stop = None if part.stop == info.size else part.stop
    exchange, begins = await rest.request(part.start, tries, stop)
    return StreamedDownload(
        info, exchange, checksum, rest, tries, turns, requester.clock, part, begins, idle_seconds
    )


def _check_content(
    exchange: Exchange, info: ObjectInfo, content: bytes, checksum: Checksum, doubts: Doubts
) -> None:
    """:raises DamagedError: if these bytes are not the object's."""
    checksum.update(content)
    right = checksum.right()
    if not right and isinstance(checksum, NotedChecksum):
        proof = PlainChecksum(info.etag)
        proof.update(content)
        right = proof.right()
        if right and doubts.add(info):
            logger.warning(
                "%s/%s is served although the CRC-32 in its metadata is wrong: its MD5 is right",
                exchange.target.container,
                info.name,
            )
    if len(content) != info.size or not right:
        raise exchange.target.error(
            DamagedError,
            f"the {len(content)} bytes that came do not have the object's checksum",
        )


@implementer(IPushProducer)
class WholeDownload(Download):
    """A small body, which was read and checked already.

    :ivar content: all of it, also once the download is abandoned: others may share it.
    """

    def __init__(self, info: ObjectInfo, content: bytes) -> None:
        self.info = info
        self.checked = True
        self.content = content
        self._abandoned = False
        self._stopped = False

    def deliver(
        self, consumer: IConsumer, part: range | None = None, announced: int | None = None
    ) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        if self._abandoned:
            done.errback(ConsumerStoppedError("the download was abandoned"))
            return done
        try:
            consumer.registerProducer(self, True)
            try:
                if not self._stopped:
                    consumer.write(self.content[part.start : part.stop] if part else self.content)
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
        self._abandoned = True

    def pauseProducing(self) -> None:
        """The only write is made at once: there is nothing to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to produce."""

    def stopProducing(self) -> None:
        """The consumer wants nothing (more)."""
        self._stopped = True


class State(Enum):
    """The module's docstring has the meaning of each."""

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


class AnyRest(Protocol):
    """Requests the rest of a download that broke off or was parked.

    :ivar can_move: whether the rest may come from another place, so that a place that
        delivers too slowly need not be waited for.
    """

    can_move: bool

    @property
    def target(self) -> Target:
        """What the download is about, for its errors."""

    @property
    def observer(self) -> Observer:
        """Told about the download."""

    async def resume(
        self, error: SwiftError | None, offset: int, tries: Tries, stop: int | None
    ) -> tuple[Exchange, int]:
        """Ask for the body from ``offset`` on, once a retry may begin.

        :param error: how the download broke off; ``None`` if it was parked.
        :param tries: how many attempts are left.
        :param stop: only up to this offset; ``None`` for the end of the object.
        :returns: the exchange, its body untouched, which the caller closes; and the
            offset at which that body begins, which may be lower. The body may go on after
            ``stop``.
        :raises SwiftProviderError: if it failed for good.
        """


class Rest:
    """Requests the rest in the place where the download began. See :class:`AnyRest`.

    :param take_slot: as of :class:`Request`.
    :param match: whether the server can be asked to compare the ETag.
    :ivar match: the same, as it turns out on the way.
    """

    can_move = False

    def __init__(
        self,
        requester: Requester,
        container: str,
        info: ObjectInfo,
        take_slot: TakeSlot | None = None,
        match: bool = True,
    ) -> None:
        self._requester = requester
        self._container = container
        self._info = info
        self._take_slot = take_slot
        self.match = match

    @property
    def target(self) -> Target:
        return Target("GET", self._container, self._info.name)

    @property
    def observer(self) -> Observer:
        return self._requester.observer

    async def resume(
        self, error: SwiftError | None, offset: int, tries: Tries, stop: int | None
    ) -> tuple[Exchange, int]:
        if error is not None:
            await self._requester.wait_to_retry(error, tries)
        return await self.request(offset, tries, stop)

    async def request(
        self, offset: int, tries: Tries, stop: int | None = None
    ) -> tuple[Exchange, int]:
        """Ask for the body from ``offset`` on. See :meth:`AnyRest.resume`.

        :raises ObjectChangedError: if it is not the same object any more.
        :raises SwiftProviderError: if it failed for good.
        """
        try:
            return await self._request(offset, tries, stop)
        except ObjectChangedError:
            # Ceph RGW compares a large object's ETag with that of an empty manifest, so
            # that If-Match never matches. Other servers may want quotes around the ETag,
            # which Ceph RGW refuses. So compare here instead of on the server.
            if not self.match:
                raise
            tries.progress.request_ended()
            now = await self._requester.head(
                self._container,
                self._info.name,
                progress=tries.progress,
                take_slot=self._take_slot,
            )
            tries.progress.request_ended()
            if (now.etag, now.size) != (self._info.etag, self._info.size):
                raise
            self.match = False
            return await self._request(offset, tries, stop)

    async def _request(self, offset: int, tries: Tries, stop: int | None) -> tuple[Exchange, int]:
        headers = {}
        if stop is not None:
            headers[b"Range"] = b"bytes=%d-%d" % (offset, stop - 1)
        elif offset:
            headers[b"Range"] = b"bytes=%d-" % offset
        if self.match and self._info.etag:
            headers[b"If-Match"] = self._info.etag.encode("latin-1")
        request = Request(
            "GET", self._container, self._info.name, headers=headers, take_slot=self._take_slot
        )
        if offset and not self._info.etag:
            raise request.target.error(
                RequestRefusedError, "without an ETag the rest may be that of another object"
            )

        async def check(exchange: Exchange) -> tuple[Exchange, int]:
            if normal_etag(header(exchange.headers, b"ETag")) != self._info.etag:
                raise request.target.error(
                    ObjectChangedError, "the object was replaced meanwhile", status=exchange.status
                )
            begins = first_byte(request, exchange, offset, self._info.size)
            exchange.keep()
            return exchange, begins

        return await self._requester.perform(request, check, tries=tries)


def _nothing_is_left(error: SwiftError) -> bool:
    """Whether Swift, and nothing else, says that an object has no byte at an offset."""
    return error.status == 416 and error.transaction_id is not None


def _body_stop(exchange: Exchange, begins: int) -> int | None:
    """The offset in the object at which a response's body ends; ``None`` if it does not say."""
    return None if exchange.length is None else begins + exchange.length


@implementer(IPushProducer)
class StreamedDownload(Download):
    """A body that comes through a connection.

    :param exchange: answered, its body untouched; the download closes it.
    :param checksum: checks the whole body; ``None`` if only its length can be checked.
    :param rest: requests the rest of the body.
    :param tries: how often to resume without getting further.
    :param turns: shared by all downloads on this reactor.
    :param part: the positions of the bytes that ``checksum`` checks; ``None`` for all.
    :param begins: where the exchange's body begins in the object.
    :param idle_seconds: the longest silence of a body; ``None`` for the usual.
    :ivar rest: as given; may be replaced before :meth:`deliver`.
    :ivar on_wrong: called if the checksum is wrong in the end.
    :ivar on_end: called when all was delivered, with ``None``, or with the error if that
        failed. Not called if the consumer stopped the download.
    """

    def __init__(
        self,
        info: ObjectInfo,
        exchange: Exchange,
        checksum: Checksum | None,
        rest: AnyRest,
        tries: Tries,
        turns: Turns,
        clock: IReactorTime,
        part: range | None = None,
        begins: int = 0,
        idle_seconds: float | None = None,
    ) -> None:
        self.info = info
        self.checked = checksum is not None
        self.state = State.OPEN
        self.rest = rest
        self.on_wrong: Callable[[], object] = lambda: None
        self.on_end: Callable[[BaseException | None], object] = lambda _: None
        self._exchange: Exchange | None = exchange
        self._checksum = checksum
        self._tries = tries
        self._turns = turns
        # Later steps begin in the reactor or in the consumer, outside the caller's context.
        self._context = copy_context()
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None
        self._start = self._position = part.start if part is not None else 0
        #: Of a part that ends before the object does.
        self._stop = part.stop if part is not None and part.stop != info.size else None
        self._idle_seconds = idle_seconds
        self._announced: int | None = None
        self._body_stop = _body_stop(exchange, begins)
        self._broken_at = -1  # lower than 0, because headers alone are progress, too
        self._skip = self._position - begins
        self._held = b""  # received, and perhaps the last bytes
        self._wanted = False
        self._reopening: Deferred[None] | None = None
        self._received = self._received_before = 0
        self._pace_timer = TimeLimit(clock, self._look_at_pace)
        self._offer_timer = TimeLimit(clock, self._offer)
        self._park_timer = TimeLimit(clock, self._park)
        self._park_timer.watch(PARK_SECONDS, "nothing was wanted")

    @property
    def _end(self) -> int | None:
        """How far to deliver; ``None`` if the object's size is not known."""
        return self.info.size if self._stop is None else self._stop

    # What the consumer does

    def deliver(
        self, consumer: IConsumer, part: range | None = None, announced: int | None = None
    ) -> Deferred[None]:
        assert self._consumer is None, "a download is delivered once"
        done: Deferred[None] = Deferred(lambda _: self.abandon())
        self._done = done
        if self.state.final:
            self._done = None
            done.errback(ConsumerStoppedError("the download was abandoned"))
            return done
        if part is not None:
            self._narrow(part)
        if self.info.size is None:
            self._announced = announced
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

    def _narrow(self, part: range) -> None:
        """Deliver only a part."""
        if len(part) == self.info.size:
            return
        self._checksum = None
        self._start = self._position = part.start
        if part.stop != self.info.size:
            self._stop = part.stop
        if part.start and self.state is State.OPEN:
            self._park()

    def pauseProducing(self) -> None:
        """The consumer wants nothing for now."""
        self._wanted = False
        if self.state is State.FLOWING:
            self._enter(State.PAUSED)
            assert self._exchange is not None
            self._exchange.pause()
            self._offer_timer.watch(OFFER_SECONDS, "nothing was wanted")
            self._park_timer.watch(PARK_SECONDS, "nothing was wanted")

    def resumeProducing(self) -> None:
        """The consumer wants more."""
        self._wanted = True
        self._flow()

    def stopProducing(self) -> None:
        """The consumer is gone."""
        stopped = ConsumerStoppedError("the consumer stopped the download")
        self._finish(State.STOPPED, Failure(stopped))

    def abandon(self) -> None:
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
            self._exchange.stream(self, self._idle_seconds)
        elif self.state is State.PARKED:
            self._tries.refill()
            self._enter(State.REOPENING)
            self._begin_reopening(None)

    def _go_on(self) -> None:
        """Resume, if the consumer still wants more when its turn comes."""
        if not self._wanted:
            return
        if self.state is State.PAUSED:
            self._enter(State.FLOWING)
            assert self._exchange is not None
            self._exchange.resume()
        elif self.state is State.PARKED:  # it was parked while it waited for its turn
            self._flow()

    def _offer(self, _why: str) -> None:
        """The consumer is slow: let another exchange have the slot, if one waits."""
        assert self._exchange is not None
        self._exchange.offer_slot(self._park)

    def _park(self, _why: str = "") -> None:
        """The consumer stays paused: release connection and slot to others."""
        self._enter(State.PARKED)
        self._release()

    def _release(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    def _broke(self, error: SwiftError) -> None:
        self._release()
        if self._position > self._broken_at:
            self._broken_at = self._position
            self._tries.refill()
        if self.state is State.PAUSED:
            self._enter(State.PARKED)
            return
        self._enter(State.REOPENING)
        self._begin_reopening(error)

    def _watch_pace(self) -> None:
        self._received_before = self._received
        self._pace_timer.watch(SLOW_SECONDS, "")

    def _look_at_pace(self, _why: str) -> None:
        """The consumer wants more, and another place may deliver faster."""
        received = self._received - self._received_before
        if received >= SLOW_BYTES:
            self._watch_pace()
            return
        reason = f"only {received} bytes came within {SLOW_SECONDS:.0f} seconds"
        self._broke(self.rest.target.error(SlowError, reason))

    def _begin_reopening(self, error: SwiftError | None) -> None:
        # A copy, because a context cannot be entered twice at the same time.
        context = self._context.copy()
        self._reopening = context.run(ensureDeferred, self._request_the_rest(error))
        self._reopening.addErrback(self._not_reopened)

    async def _request_the_rest(self, error: SwiftError | None) -> None:
        exchange, begins = await self.rest.resume(error, self._position, self._tries, self._stop)
        if self.state.final:
            exchange.close()
            return
        self._reopening = None
        if self._position > self._start:
            self.rest.observer.resumed()
        self._skip = self._position - begins
        self._body_stop = _body_stop(exchange, begins)
        self._exchange = exchange
        self._enter(State.FLOWING)
        exchange.stream(self, self._idle_seconds)
        if not self._wanted:
            self.pauseProducing()

    def _not_reopened(self, failure: Failure) -> None:
        self._reopening = None
        error = failure.value
        if self.info.size is None and isinstance(error, SwiftError) and _nothing_is_left(error):
            self._finish_checked()
        else:
            self._finish(State.FAILED, failure)

    # What comes through the connection

    def chunk_received(self, data: bytes) -> None:
        if self.state.final:
            return
        self.rest.observer.received(len(data))
        self._received += len(data)
        if self._skip:
            skipped, self._skip = data[: self._skip], max(0, self._skip - len(data))
            data = data[len(skipped) :]
        if self._stop is not None:
            data = data[: self._stop - self._position]
        if not data:
            return
        self._position += len(data)
        if self.info.size is not None and self._position > self.info.size:
            self._fail_damaged(f"the body goes on after the object's {self.info.size} bytes")
            return
        if self._announced is not None and self._position > self._announced:
            self._fail_length(
                f"its body goes on after {self._announced} bytes, its announced length"
            )
            return
        if self._checksum is not None:
            self._checksum.update(data)
            if self._position == self._end and not self._checksum.right():
                self._fail_wrong()
                return
        if self.info.size is None:
            self._held, data = data, self._held
        if data:
            self._write(data)
        if self._position == self._stop and self._body_stop != self._stop:
            self._finish_checked()  # this response goes on after the part

    def _write(self, data: bytes) -> None:
        assert self._consumer is not None
        try:
            self._consumer.write(data)
        except Exception:
            self._finish(State.FAILED, Failure())

    def body_ended(self, error: SwiftError | None) -> None:
        if self.state.final:
            return
        if self._is_complete(error):
            self._finish_checked()
            return
        self._broke(
            error
            or self.rest.target.error(
                DamagedError, f"the body ended at byte {self._position} of {self._end}"
            )
        )

    def _is_complete(self, error: SwiftError | None) -> bool:
        """Whether nothing is missing of a body that has ended.

        :param error: how its connection was lost; ``None`` if it ended cleanly.
        """
        if self._end is not None:
            return self._position == self._end
        # A server of HTTP/1.0 ends a body by closing, so only a checksum tells that from a break.
        return error is None or (self._checksum is not None and self._checksum.right())

    def _finish_checked(self) -> None:
        """Nothing is missing. Compare the checksum."""
        if self._checksum is not None and not self._checksum.right():
            self._fail_wrong()
            return
        if self._announced not in (None, self._position):
            self._fail_length(
                f"it has {self._position} bytes, and {self._announced} were announced"
            )
            return
        held, self._held = self._held, b""
        # Synapse's multipart consumer begins its response at the first write.
        if held or not self._position:
            self._write(held)
        self._finish(State.DONE, None)

    def _fail_wrong(self) -> None:
        self.on_wrong()
        self._fail_damaged(f"the {self._position} bytes that came are not the object's")

    def _fail_damaged(self, reason: str) -> None:
        damaged = self.rest.target.error(DamagedError, reason)
        self._finish(State.FAILED, Failure(damaged))

    def _fail_length(self, reason: str) -> None:
        self._finish(State.FAILED, Failure(self.rest.target.error(WrongLengthError, reason)))

    # States

    def _enter(self, state: State) -> None:
        self._offer_timer.rest()
        self._park_timer.rest()
        self._pace_timer.rest()
        self.state = state
        if state is State.FLOWING and self.rest.can_move:
            self._watch_pace()

    def _finish(self, state: State, failure: Failure | None) -> None:
        if self.state.final:
            return
        self._enter(state)
        self._release()
        reopening, self._reopening = self._reopening, None
        if reopening is not None:
            reopening.cancel()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.unregisterProducer()
            except Exception:
                failure = failure or Failure()
        if state is not State.STOPPED:
            self.on_end(None if failure is None else failure.value)
        done, self._done = self._done, None
        if done is None:
            return
        if failure is None:
            done.callback(None)
            return
        if isinstance(failure.value, SwiftProviderError):
            self.rest.observer.failed(failure.value)
        done.errback(failure)
