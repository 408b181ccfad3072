"""A download's states, with exchanges and consumers that write down what happens to them.

Each test compares the whole log, so that nothing happens twice and nothing is
forgotten; the clock is moved by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.checksum import proof_for
from swift_provider.client.download_turns import Turns
from swift_provider.client.downloads import (
    PARK_SECONDS,
    Rest,
    State,
    StreamedDownload,
    WholeDownload,
)
from swift_provider.client.observer import Observer
from swift_provider.client.requester import Requester
from swift_provider.client.retry import Patience, Tries
from swift_provider.errors import (
    ConnectionFailedError,
    ConsumerStoppedError,
    DamagedError,
    ObjectChangedError,
    RequestRefusedError,
    SwiftError,
    Target,
    WrongLengthError,
)
from tests.client.trouble import TurningClock

CONTENT = b"0123456789"
TARGET = Target("GET", "box", "name")
PATIENCE = Patience(total_seconds=15, first_delay=1, longest_delay=4, operation_seconds=90)


def info_of(content: bytes, size: int | None, **facts: Any) -> ObjectInfo:
    etag = hashlib.md5(content).hexdigest()
    return ObjectInfo("name", size, etag, "text/plain", "", **facts)


def broken() -> SwiftError:
    return TARGET.error(ConnectionFailedError, "broken by the test")


class LoggedExchange:
    """An exchange whose body comes when the test says so.

    :param length: of the body, in bytes; ``None`` if its headers do not say.
    """

    def __init__(self, log: list[Any], name: str, length: int | None) -> None:
        self._log = log
        self._name = name
        self.length = length
        self.receiver: Any = None
        self.on_stream: Callable[[], None] = lambda: None

    def stream(self, receiver: Any, idle_seconds: float | None) -> None:
        self._log.append(f"{self._name} stream")
        self.receiver = receiver
        self.on_stream()

    def pause(self) -> None:
        self._log.append(f"{self._name} pause")

    def resume(self) -> None:
        self._log.append(f"{self._name} resume")

    def offer_slot(self, release: Callable[[], None]) -> None:
        self.release = release

    def close(self) -> None:
        self._log.append(f"{self._name} close")


@implementer(IConsumer)
class LoggedConsumer:
    """Does in each call what the test wants done; afterwards nothing."""

    def __init__(self, log: list[Any]) -> None:
        self._log = log
        self.producer: Any = None
        self.on_register: Callable[[], None] = lambda: None
        self.on_write: Callable[[], None] = lambda: None
        self.on_unregister: Callable[[], None] = lambda: None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._log.append("register")
        self.producer = producer
        self.on_register()

    def unregisterProducer(self) -> None:
        self._log.append("unregister")
        self.on_unregister()

    def write(self, data: bytes) -> None:
        self._log.append(data)
        self.on_write()


class Bench:
    """A download of CONTENT, a consumer, and what happened.

    :ivar first: the exchange that the download begins with.
    :ivar asked: each request for the rest; the test answers it.
    :ivar done: the Deferred of :meth:`deliver`.
    :ivar outcome: what came of :meth:`deliver`: an empty list until it fired.
    """

    def __init__(
        self, size: int | None = len(CONTENT), turns: Turns | None = None, **facts: Any
    ) -> None:
        self.log: list[Any] = []
        self.clock = TurningClock()
        self.consumer = LoggedConsumer(self.log)
        self.first = LoggedExchange(self.log, "first", size)
        self.asked: list[Deferred[Any]] = []
        self.outcome: list[Any] = []
        info = info_of(CONTENT, size, **facts)
        self.tries = Tries(PATIENCE, self.clock)
        # Of the requester a download uses its waits, and those are real.
        transport: Any = SimpleNamespace(reactor=self.clock)
        unused: Any = None
        self.requester = Requester(transport, unused, unused, PATIENCE, Observer())
        rest = Rest(self.requester, "box", info)
        rest.request = self.request  # type: ignore[method-assign]
        self.download = StreamedDownload(
            info,
            self.first,
            proof_for(info),
            rest,
            self.tries,
            turns or Turns(self.clock),
            self.clock,
        )

    async def request(self, offset: int, tries: Tries, stop: int | None = None) -> Any:
        """In the place of ``Rest.request``."""
        assert tries is self.tries
        self.log.append(f"reopen at {offset}" + ("" if stop is None else f" up to {stop}"))
        asked: Deferred[Any] = Deferred(lambda _: self.log.append("reopening cancelled"))
        self.asked.append(asked)
        return await asked

    def deliver(self, part: range | None = None, announced: int | None = None) -> Deferred[None]:
        self.done = done = self.download.deliver(self.consumer, part, announced)
        done.addCallbacks(
            lambda _: self.outcome.append("done"),
            lambda failure: self.outcome.append(failure.value),
        )
        return done

    def answer(
        self,
        begins: int,
        on_stream: Callable[[], None] | None = None,
        length: int | None = None,
    ) -> LoggedExchange:
        """Answers the last request for the rest."""
        exchange = LoggedExchange(self.log, "next", length)
        if on_stream is not None:
            exchange.on_stream = on_stream
        self.asked[-1].callback((exchange, begins))
        return exchange

    def failed_with(self, kind: type[BaseException]) -> bool:
        return len(self.outcome) == 1 and isinstance(self.outcome[0], kind)

    def in_state(self, state: State) -> Bench:
        """Bring the download into a state, and clear the log."""
        if state is not State.OPEN:
            self.deliver()
        if state is State.PAUSED:
            self.download.pauseProducing()
        elif state is State.PARKED:
            self.download.pauseProducing()
            self.clock.advance(PARK_SECONDS)
        elif state is State.REOPENING:
            self.download.chunk_received(CONTENT[:3])
            self.download.body_ended(broken())
            self.clock.advance(1)
        elif state is State.DONE:
            self.download.chunk_received(CONTENT)
            self.download.body_ended(None)
        elif state is State.FAILED:
            self.download.chunk_received(b"x" * len(CONTENT))
            self.download.body_ended(None)
        elif state is State.STOPPED:
            self.download.stopProducing()
        assert self.download.state is state
        self.log.clear()
        return self


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    nothing_left(bench)


def nothing_left(bench: Bench) -> None:
    """The download is in a final state and has no timer."""
    assert bench.download.state.final
    bench.clock.advance(0)  # the end of a turn
    assert bench.clock.getDelayedCalls() == []


LIVE = [State.OPEN, State.FLOWING, State.PAUSED, State.PARKED, State.REOPENING]
FINAL = [State.DONE, State.FAILED, State.STOPPED]


# The transitions


def test_a_body_that_flows_to_its_end(bench: Bench) -> None:
    """OPEN → FLOWING → DONE: registered, written, unregistered, slot released, each once."""
    bench.deliver()
    assert bench.download.state is State.FLOWING
    bench.first.receiver.chunk_received(CONTENT[:4])
    bench.first.receiver.chunk_received(CONTENT[4:])
    assert bench.outcome == []
    bench.first.receiver.body_ended(None)
    assert bench.log == [
        "register",
        "first stream",
        CONTENT[:4],
        CONTENT[4:],
        "first close",
        "unregister",
    ]
    assert bench.outcome == ["done"]
    assert bench.download.state is State.DONE


def test_an_open_download_is_parked(bench: Bench) -> None:
    """OPEN → PARKED: a body that is not asked for releases slot and connection."""
    bench.clock.advance(PARK_SECONDS - 0.1)
    assert bench.log == []
    bench.clock.advance(0.1)
    assert bench.log == ["first close"]
    assert bench.download.state is State.PARKED
    assert bench.clock.getDelayedCalls() == []
    bench.download.abandon()
    assert bench.log == ["first close"]


def test_a_parked_download_can_be_delivered(bench: Bench) -> None:
    """PARKED → REOPENING → FLOWING by *deliver*: the whole body is requested again."""
    bench.in_state(State.OPEN).clock.advance(PARK_SECONDS)
    bench.deliver()
    assert bench.download.state is State.REOPENING
    exchange = bench.answer(0)
    assert bench.download.state is State.FLOWING
    exchange.receiver.chunk_received(CONTENT)
    exchange.receiver.body_ended(None)
    assert bench.log == [
        "first close",
        "register",
        "reopen at 0",
        "next stream",
        CONTENT,
        "next close",
        "unregister",
    ]
    assert bench.outcome == ["done"]


def test_pause_and_resume(bench: Bench) -> None:
    """FLOWING ⇄ PAUSED: the connection is paused and resumed with the consumer."""
    bench.in_state(State.FLOWING)
    bench.download.pauseProducing()
    assert bench.download.state is State.PAUSED
    bench.clock.advance(PARK_SECONDS - 0.1)
    bench.download.resumeProducing()
    assert bench.download.state is State.FLOWING
    bench.clock.advance(PARK_SECONDS)
    assert bench.log == ["first pause", "first resume"]
    bench.download.abandon()


def test_downloads_take_turns_to_go_on() -> None:
    """One resumes at once, the others in later turns unless they were paused or stopped."""
    clock = TurningClock()
    turns = Turns(clock)
    benches = [Bench(turns=turns) for _ in range(4)]
    for one in benches:
        one.in_state(State.PAUSED).download.resumeProducing()
    assert [one.log for one in benches] == [["first resume"], [], [], []]
    benches[2].download.pauseProducing()
    benches[3].download.stopProducing()
    benches[3].log.clear()
    clock.advance(0)
    assert [one.log for one in benches] == [["first resume"], ["first resume"], [], []]
    benches[2].download.resumeProducing()
    assert benches[2].log == ["first resume"]
    for one in benches:
        one.download.abandon()
        nothing_left(one)


@pytest.mark.parametrize("parked_by", ["time", "a break"])
def test_parked_while_it_waits_for_its_turn(parked_by: str) -> None:
    """PAUSED → PARKED → REOPENING: a consumer that resumed before need not resume again."""
    turns = Turns(clock := TurningClock())  # its turns come when the test says so
    bench = Bench(turns=turns)
    bench.in_state(State.PAUSED)
    turns.take(lambda: None)
    bench.download.resumeProducing()
    if parked_by == "time":
        bench.clock.advance(PARK_SECONDS)
    else:
        bench.download.body_ended(broken())
    assert bench.download.state is State.PARKED
    clock.advance(0)
    assert bench.download.state is State.REOPENING
    bench.answer(0).receiver.chunk_received(CONTENT)
    bench.download.body_ended(None)
    assert bench.outcome == ["done"]
    nothing_left(bench)


def test_a_paused_download_is_parked_and_goes_on(bench: Bench) -> None:
    """PAUSED → PARKED → REOPENING → FLOWING: it continues where the consumer paused."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:3])
    bench.download.pauseProducing()
    bench.clock.advance(PARK_SECONDS)
    assert bench.download.state is State.PARKED
    bench.download.resumeProducing()
    assert bench.download.state is State.REOPENING
    bench.answer(3).receiver.chunk_received(CONTENT[3:])
    bench.download.body_ended(None)
    assert bench.log == [
        CONTENT[:3],
        "first pause",
        "first close",
        "reopen at 3",
        "next stream",
        CONTENT[3:],
        "next close",
        "unregister",
    ]
    assert bench.outcome == ["done"]


def test_a_break_is_mended(bench: Bench) -> None:
    """FLOWING → REOPENING → FLOWING: after a delay the rest is requested and delivered."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:6])
    bench.download.body_ended(broken())
    assert bench.download.state is State.REOPENING
    assert bench.log == [CONTENT[:6], "first close"]
    bench.clock.advance(1)
    assert bench.log.pop() == "reopen at 6"
    bench.answer(6).receiver.chunk_received(CONTENT[6:])
    bench.download.body_ended(None)
    assert bench.log == [
        CONTENT[:6],
        "first close",
        "next stream",
        CONTENT[6:],
        "next close",
        "unregister",
    ]
    assert bench.outcome == ["done"]


def test_a_break_while_paused_parks(bench: Bench) -> None:
    """PAUSED → PARKED by a break: nothing is requested before the consumer resumes."""
    bench.in_state(State.PAUSED)
    bench.download.body_ended(broken())
    assert bench.download.state is State.PARKED
    assert bench.clock.getDelayedCalls() == []
    bench.download.resumeProducing()
    assert bench.log == ["first close", "reopen at 0"]
    bench.download.abandon()


def test_a_body_that_ends_while_paused_is_done(bench: Bench) -> None:
    """PAUSED → DONE: the rest may have been read before the pause."""
    bench.in_state(State.PAUSED)
    bench.download.chunk_received(CONTENT)
    bench.download.body_ended(None)
    assert bench.log == [CONTENT, "first close", "unregister"]
    assert bench.outcome == ["done"]


def test_a_pause_while_reopening_holds(bench: Bench) -> None:
    """REOPENING → PAUSED: a pause during the request holds, and parks after a while."""
    bench.in_state(State.REOPENING)
    bench.download.pauseProducing()
    bench.answer(3)
    assert bench.download.state is State.PAUSED
    bench.clock.advance(PARK_SECONDS)
    assert bench.log == ["next stream", "next pause", "next close"]
    assert bench.download.state is State.PARKED
    bench.download.abandon()


def test_a_final_error_ends_a_download(bench: Bench) -> None:
    """REOPENING → FAILED: a final error reaches the caller."""
    bench.in_state(State.REOPENING)
    bench.asked[-1].errback(TARGET.error(ObjectChangedError, "replaced"))
    assert bench.log == ["unregister"]
    assert bench.failed_with(ObjectChangedError)
    assert bench.download.state is State.FAILED


def test_wrong_bytes_fail(bench: Bench) -> None:
    """FLOWING → FAILED: wrong bytes of the right number fail and are not requested again."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(b"012345678X")
    bench.download.body_ended(None)
    assert bench.log == ["first close", "unregister"]
    assert bench.failed_with(DamagedError)


def test_the_last_bytes_are_written_once_they_are_right(bench: Bench) -> None:
    """The last bytes of a wrong body stay here, so that it never looks complete."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(b"X" + CONTENT[1:9])
    bench.download.chunk_received(CONTENT[9:])
    assert bench.log == [b"X" + CONTENT[1:9], "first close", "unregister"]
    assert bench.failed_with(DamagedError)


@pytest.mark.parametrize("chunks", [[CONTENT + b"more"], [CONTENT, b"more"]])
@pytest.mark.parametrize("unproven", [False, True])
def test_nothing_is_written_beyond_the_end(chunks: list[bytes], unproven: bool) -> None:
    """A body that goes on after the object's end fails there, and need not end."""
    bench = Bench(size=len(CONTENT), dynamic_large=unproven).in_state(State.FLOWING)
    for chunk in chunks:
        bench.download.chunk_received(chunk)
    assert bench.log == [*chunks[:-1], "first close", "unregister"]
    assert bench.failed_with(DamagedError)
    nothing_left(bench)


def test_nothing_is_written_beyond_the_end_of_a_rest(bench: Bench) -> None:
    """The same holds for the rest that was requested after a break."""
    bench.in_state(State.REOPENING)
    exchange = bench.answer(2)
    exchange.receiver.chunk_received(CONTENT[2:9])
    exchange.receiver.chunk_received(CONTENT[9:] + b"more")
    assert bench.log == ["next stream", CONTENT[3:9], "next close", "unregister"]
    assert bench.failed_with(DamagedError)


# Offsets


@pytest.mark.parametrize("begins", [0, 2, 5])
def test_an_answer_that_begins_earlier_is_skipped(bench: Bench, begins: int) -> None:
    """Where Range was ignored, bytes that the consumer has already are not written again."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:5])
    bench.download.body_ended(broken())
    bench.clock.advance(1)
    exchange = bench.answer(begins)
    for byte in CONTENT[begins:]:
        exchange.receiver.chunk_received(bytes([byte]))
    exchange.receiver.body_ended(None)
    assert b"".join(entry for entry in bench.log if isinstance(entry, bytes)) == CONTENT
    assert bench.outcome == ["done"]


def test_a_short_body_is_never_whole(bench: Bench) -> None:
    """A body that ends cleanly but early is a break, and the rest is requested."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:9])
    bench.download.body_ended(None)
    assert bench.download.state is State.REOPENING
    bench.clock.advance(1)
    assert bench.log == [CONTENT[:9], "first close", "reopen at 9"]
    bench.download.abandon()


def test_no_progress_gives_up(bench: Bench) -> None:
    """A download that breaks at the same offset each time fails within the patience."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:3])
    began = bench.clock.seconds()
    bench.download.body_ended(broken())
    while not bench.outcome:
        bench.clock.advance(0.5)
        if bench.asked:
            bench.answer(3)
            bench.asked.clear()
            bench.download.body_ended(broken())
    assert bench.failed_with(ConnectionFailedError)
    assert 5 < bench.clock.seconds() - began <= PATIENCE.total_seconds
    assert bench.log.count("reopen at 3") > 3
    assert bench.log.count("next close") == bench.log.count("reopen at 3")


def test_progress_refills_the_tries(bench: Bench) -> None:
    """A body that breaks after each byte, for longer than the patience, still arrives."""
    bench.in_state(State.FLOWING)
    for byte in CONTENT[:-1]:
        bench.clock.advance(PATIENCE.total_seconds)
        bench.download.chunk_received(bytes([byte]))
        bench.download.body_ended(broken())
        bench.clock.advance(1)
        bench.answer(byte - CONTENT[0] + 1)
    bench.download.chunk_received(CONTENT[-1:])
    bench.download.body_ended(None)
    assert bench.outcome == ["done"]


@pytest.mark.parametrize("received", [0, 5])
def test_a_first_break_after_a_long_time_is_mended(bench: Bench, received: int) -> None:
    """A body that breaks after a long time has all its retries."""
    bench.in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:received])
    bench.clock.advance(10 * PATIENCE.total_seconds)
    bench.download.body_ended(broken())
    bench.clock.advance(1)
    assert bench.log[-1] == f"reopen at {received}"
    bench.download.abandon()


def test_a_wake_after_a_long_sleep_has_its_tries(bench: Bench) -> None:
    """A consumer that was paused for longer than the patience has all its retries."""
    bench.in_state(State.PARKED)
    bench.clock.advance(100 * PATIENCE.total_seconds)
    bench.download.resumeProducing()
    bench.answer(0)
    bench.download.body_ended(broken())
    assert bench.download.state is State.REOPENING
    bench.download.abandon()


# Parts


@pytest.mark.parametrize("state", [State.OPEN, State.PARKED])
@pytest.mark.parametrize("part", [range(4, 10), range(4, 7)], ids=["to the end", "middle"])
def test_a_part_is_requested(state: State, part: range) -> None:
    """A part with another start lets go of the whole, and is requested by itself."""
    bench = Bench().in_state(State.OPEN)
    if state is State.PARKED:
        bench.clock.advance(PARK_SECONDS)
    bench.deliver(part)
    assert bench.download.state is State.REOPENING
    exchange = bench.answer(4, length=len(part))
    exchange.receiver.chunk_received(CONTENT[4:6])
    exchange.receiver.chunk_received(CONTENT[6 : part.stop])
    assert bench.outcome == []
    exchange.receiver.body_ended(None)
    assert bench.log == [
        "first close",
        "register",
        "reopen at 4" if part.stop == 10 else "reopen at 4 up to 7",
        "next stream",
        CONTENT[4:6],
        CONTENT[6 : part.stop],
        "next close",
        "unregister",
    ]
    assert bench.outcome == ["done"]
    nothing_left(bench)


@pytest.mark.parametrize("received", [CONTENT[:6], CONTENT[:8], CONTENT])
def test_a_part_at_the_beginning_ends_the_whole(bench: Bench, received: bytes) -> None:
    """What the connection brings is delivered up to the part's end; then it is closed."""
    bench.deliver(range(6))
    bench.first.receiver.chunk_received(received[:3])
    bench.first.receiver.chunk_received(received[3:])
    bench.first.receiver.chunk_received(b"late")
    assert bench.log == [
        "register",
        "first stream",
        CONTENT[:3],
        CONTENT[3:6],
        "first close",
        "unregister",
    ]
    assert bench.outcome == ["done"]


def test_the_part_that_is_the_whole_is_checked(bench: Bench) -> None:
    """``bytes=0-`` goes on with the request for the whole, and its checksum is compared."""
    bench.deliver(range(len(CONTENT)))
    bench.first.receiver.chunk_received(b"012345678X")
    bench.first.receiver.body_ended(None)
    assert bench.log == ["register", "first stream", "first close", "unregister"]
    assert bench.failed_with(DamagedError)


@pytest.mark.parametrize("begins", [0, 1, 5])
def test_an_answer_to_a_part_may_be_longer(bench: Bench, begins: int) -> None:
    """Where Range was ignored, only the part is delivered."""
    bench.deliver(range(5, 8))
    exchange = bench.answer(begins, length=len(CONTENT) - begins)
    exchange.receiver.chunk_received(CONTENT[begins:])
    assert b"".join(entry for entry in bench.log if isinstance(entry, bytes)) == CONTENT[5:8]
    assert bench.log[-2:] == ["next close", "unregister"]
    assert bench.outcome == ["done"]


@pytest.mark.parametrize("ended", [None, broken()], ids=["early", "broken"])
@pytest.mark.parametrize("part", [range(2, 10), range(2, 8), range(8)])
def test_a_broken_part_is_mended(bench: Bench, part: range, ended: SwiftError | None) -> None:
    """FLOWING → REOPENING → FLOWING: only what is missing of the part is requested."""
    bench.deliver(part)
    exchange = bench.answer(2, length=len(part)) if part.start else bench.first
    exchange.receiver.chunk_received(CONTENT[part.start : 5])
    exchange.receiver.body_ended(ended)
    assert bench.download.state is State.REOPENING
    bench.clock.advance(1)
    assert bench.log[-1] == ("reopen at 5" if part.stop == 10 else "reopen at 5 up to 8")
    exchange = bench.answer(5, length=part.stop - 5)
    exchange.receiver.chunk_received(CONTENT[5 : part.stop])
    exchange.receiver.body_ended(None)
    delivered = b"".join(entry for entry in bench.log if isinstance(entry, bytes))
    assert delivered == CONTENT[part.start : part.stop]
    assert bench.outcome == ["done"]


def test_a_part_is_paused_and_parked(bench: Bench) -> None:
    """FLOWING → PAUSED → PARKED → REOPENING: a part has the states of the whole."""
    bench.deliver(range(2, 8))
    bench.answer(2, length=6).receiver.chunk_received(CONTENT[2:4])
    bench.download.pauseProducing()
    bench.clock.advance(PARK_SECONDS)
    assert bench.download.state is State.PARKED
    bench.download.resumeProducing()
    assert bench.log[-1] == "reopen at 4 up to 8"
    bench.download.abandon()


def test_a_pause_at_the_end_of_a_part(bench: Bench) -> None:
    """A part whose last byte makes the consumer pause is done; nothing is requested."""
    bench.consumer.on_write = lambda: bench.download.pauseProducing()
    bench.deliver(range(4))
    bench.first.receiver.chunk_received(CONTENT)
    assert bench.outcome == ["done"]


def test_a_stop_at_the_end_of_a_part(bench: Bench) -> None:
    """A consumer that stops with the last byte has stopped the download."""
    bench.consumer.on_write = lambda: bench.download.stopProducing()
    bench.deliver(range(4))
    bench.first.receiver.chunk_received(CONTENT)
    assert bench.failed_with(ConsumerStoppedError)


def test_only_a_download_that_began_is_resumed() -> None:
    """The first request for a part does not count as a resumption; what mends it does."""
    bench, resumed = Bench(), []
    bench.requester.observer.resumed = lambda: resumed.append(True)
    bench.deliver(range(2, 8))
    exchange = bench.answer(2, length=6)
    exchange.receiver.chunk_received(CONTENT[2:4])
    assert resumed == []
    exchange.receiver.body_ended(broken())
    bench.clock.advance(1)
    bench.answer(4, length=4)
    assert resumed == [True]
    bench.download.abandon()
    nothing_left(bench)


@pytest.mark.parametrize("part", [range(10), range(3), range(3, 7), range(9, 10)])
def test_a_part_of_what_is_in_memory(part: range) -> None:
    """A small body is cut from memory."""
    log: list[Any] = []
    download = WholeDownload(info_of(CONTENT, len(CONTENT)), CONTENT)
    done: list[None] = []
    download.deliver(LoggedConsumer(log), part).addCallback(done.append)
    assert log == ["register", CONTENT[part.start : part.stop], "unregister"]
    assert done == [None]


# Bodies without a length, and 416


def refused(status: int, transaction_id: str | None = "tx1") -> SwiftError:
    return TARGET.error(
        RequestRefusedError, "no such range", status=status, transaction_id=transaction_id
    )


def test_without_a_length_the_latest_chunk_is_held_back() -> None:
    """The latest chunk may be the last, so it is written when more comes, or if all is right."""
    for last, outcome in ((CONTENT[7:], State.DONE), (b"xxx", State.FAILED)):
        bench = Bench(size=None).in_state(State.FLOWING)
        for chunk in (CONTENT[:4], CONTENT[4:7], last):
            bench.download.chunk_received(chunk)
        assert bench.log == [CONTENT[:4], CONTENT[4:7]]
        bench.download.body_ended(None)
        assert bench.log[2:] == [last] * (outcome is State.DONE) + ["first close", "unregister"]
        assert bench.download.state is outcome
        nothing_left(bench)


def test_without_a_length_the_chunk_held_back_outlasts_a_break() -> None:
    """What was held back at a break comes before the rest."""
    bench = Bench(size=None).in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:4])
    bench.download.body_ended(broken())
    bench.clock.advance(1)
    exchange = bench.answer(4)
    exchange.receiver.chunk_received(CONTENT[4:])
    exchange.receiver.body_ended(None)
    chunks = [entry for entry in bench.log if isinstance(entry, bytes)]
    assert chunks == [CONTENT[:4], CONTENT[4:]]
    assert bench.outcome == ["done"]
    nothing_left(bench)


def test_without_a_length_a_close_may_be_the_end() -> None:
    """If the bytes that came are right, nothing more is requested."""
    bench = Bench(size=None).in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT)
    bench.download.body_ended(broken())
    assert bench.log == [CONTENT, "first close", "unregister"]
    assert bench.outcome == ["done"]
    nothing_left(bench)


@pytest.mark.parametrize("on_write", ["raise", "stop", "pause"])
def test_a_consumer_that_does_something_at_the_chunk_held_back(on_write: str) -> None:
    """The last write may fail, stop the download or pause it, as any other."""
    bench = Bench(size=None).in_state(State.FLOWING)
    bench.consumer.on_write = {
        "raise": raise_disk_full,
        "stop": bench.download.stopProducing,
        "pause": bench.download.pauseProducing,
    }[on_write]
    bench.download.chunk_received(CONTENT)
    bench.download.body_ended(None)
    if on_write == "pause":
        assert bench.outcome == ["done"]
    else:
        assert bench.failed_with(OSError if on_write == "raise" else ConsumerStoppedError)
    assert bench.log[0] == CONTENT
    assert bench.log[-2:] == ["first close", "unregister"]
    nothing_left(bench)


def test_without_a_length_a_clean_end_is_checked() -> None:
    """With no Content-Length the MD5 decides."""
    for content, outcome in ((CONTENT, State.DONE), (CONTENT[:9], State.FAILED)):
        bench = Bench(size=None).in_state(State.FLOWING)
        bench.download.chunk_received(content)
        bench.download.body_ended(None)
        assert bench.download.state is outcome
        nothing_left(bench)


@pytest.mark.parametrize(
    ("size", "unproven", "transaction_id", "outcome"),
    [
        (None, True, "tx1", State.DONE),
        (None, True, None, State.FAILED),
        (None, False, "tx1", State.FAILED),
        (10, True, "tx1", State.FAILED),
    ],
    ids=["Swift's", "foreign", "bytes are wrong", "bytes are missing"],
)
def test_nothing_is_left_says_416(
    size: int | None, unproven: bool, transaction_id: str | None, outcome: State
) -> None:
    """Only a 416 of Swift completes a body that has neither a length nor a checksum."""
    bench = Bench(size=size, dynamic_large=unproven).in_state(State.FLOWING)
    bench.download.chunk_received(CONTENT[:9])
    bench.download.body_ended(broken())
    bench.clock.advance(1)
    bench.asked[-1].errback(refused(416, transaction_id))
    assert bench.download.state is outcome
    assert bench.log[-1] == "unregister"
    if outcome is State.FAILED:
        assert bench.failed_with(SwiftError)
    nothing_left(bench)


@pytest.mark.parametrize("size", [0, None])
def test_an_empty_body_is_written_once(size: int | None) -> None:
    """A consumer that begins its response at the first write gets one."""
    bench = Bench(size=size, dynamic_large=True).in_state(State.FLOWING)
    bench.download.body_ended(None)
    assert bench.log == [b"", "first close", "unregister"]
    assert bench.outcome == ["done"]
    nothing_left(bench)


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("announced", [0, 1, 7, 9, 10, 11, 1000])
@pytest.mark.parametrize("cuts", [[], [4, 7], [9], [3, 6, 9]])
def test_without_a_length_the_announced_one_is_compared(
    proven: bool, announced: int, cuts: list[int]
) -> None:
    """A body of another length fails, and its consumer gets fewer bytes than it expects."""
    bench = Bench(size=None, dynamic_large=not proven)
    bench.deliver(announced=announced)
    for start, stop in zip([0, *cuts], [*cuts, len(CONTENT)], strict=True):
        bench.download.chunk_received(CONTENT[start:stop])
    bench.download.body_ended(None)
    got = b"".join(entry for entry in bench.log if isinstance(entry, bytes))
    if announced == len(CONTENT):
        assert (got, bench.outcome) == (CONTENT, ["done"])
    else:
        assert CONTENT.startswith(got)
        assert len(got) < max(1, announced)
        assert bench.failed_with(WrongLengthError)
    nothing_left(bench)


# Doubled calls, and calls in every state


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize("end", ["stopProducing", "abandon", "cancel"])
def test_the_end_in_every_state(state: State, end: str) -> None:
    """Stopping, abandoning and cancelling release everything once, in any state."""
    bench = Bench().in_state(state)
    if state is State.OPEN:
        bench.deliver()
    if end == "cancel":
        bench.done.cancel()
    else:
        getattr(bench.download, end)()
    bench.download.stopProducing()
    bench.download.abandon()
    bench.download.pauseProducing()
    bench.download.resumeProducing()
    expected = {
        State.OPEN: ["register", "first stream", "first close", "unregister"],
        State.FLOWING: ["first close", "unregister"],
        State.PAUSED: ["first close", "unregister"],
        State.PARKED: ["unregister"],
        State.REOPENING: ["reopening cancelled", "unregister"],
    }
    assert bench.log == expected[state]
    assert bench.failed_with(ConsumerStoppedError)
    assert bench.download.state is State.STOPPED
    nothing_left(bench)


@pytest.mark.parametrize("state", [State.OPEN, State.PARKED])
def test_abandoned_before_delivery(state: State) -> None:
    """An abandoned download that is then delivered fails and does not touch the consumer."""
    bench = Bench()
    if state is State.PARKED:
        bench.clock.advance(PARK_SECONDS)
    bench.download.abandon()
    assert bench.log == ["first close"]
    bench.deliver()
    assert bench.log == ["first close"]
    assert bench.failed_with(ConsumerStoppedError)
    nothing_left(bench)


@pytest.mark.parametrize("state", FINAL)
def test_a_final_state_is_final(state: State) -> None:
    """Nothing leads out of a final state."""
    bench = Bench().in_state(state)
    outcome = list(bench.outcome)
    for late in (
        bench.download.pauseProducing,
        bench.download.resumeProducing,
        bench.download.stopProducing,
        bench.download.abandon,
        lambda: bench.download.chunk_received(b"late"),
        lambda: bench.download.body_ended(None),
        lambda: bench.download.body_ended(broken()),
    ):
        late()
        assert bench.download.state is state
    assert bench.log == []
    assert bench.outcome == outcome
    nothing_left(bench)


@pytest.mark.parametrize(
    ("state", "calls", "log"),
    [
        (State.FLOWING, ["pause", "pause"], ["first pause"]),
        (State.FLOWING, ["resume", "resume"], []),
        (State.PAUSED, ["resume", "resume"], ["first resume"]),
        (State.PAUSED, ["pause", "resume", "pause"], ["first resume", "first pause"]),
        (State.PARKED, ["resume", "resume"], ["reopen at 0"]),
        (State.PARKED, ["pause", "pause"], []),
        (State.REOPENING, ["resume", "pause", "pause", "resume"], []),
        (State.OPEN, ["pause", "pause"], []),
    ],
)
def test_doubled_calls_are_harmless(state: State, calls: list[str], log: list[str]) -> None:
    """A second pause or resume does nothing."""
    bench = Bench().in_state(state)
    for call in calls:
        getattr(bench.download, f"{call}Producing")()
    assert bench.log == log
    bench.download.abandon()
    nothing_left(bench)


def test_parking_is_counted_from_the_last_pause(bench: Bench) -> None:
    """Consumers that pause and resume often are not parked."""
    bench.in_state(State.FLOWING)
    for _ in range(10):
        bench.download.pauseProducing()
        bench.clock.advance(PARK_SECONDS - 0.5)
        bench.download.pauseProducing()
        bench.download.resumeProducing()
    assert bench.download.state is State.FLOWING
    bench.download.abandon()


# Consumers that act in the middle of our calls


def test_a_pause_inside_write_is_kept(bench: Bench) -> None:
    """A consumer may pause within *write*; bytes that were read already still come."""
    bench.deliver()
    bench.consumer.on_write = lambda: bench.download.pauseProducing()
    bench.first.receiver.chunk_received(CONTENT[:4])
    assert bench.download.state is State.PAUSED
    bench.first.receiver.chunk_received(CONTENT[4:6])
    assert bench.log == ["register", "first stream", CONTENT[:4], "first pause", CONTENT[4:6]]
    bench.consumer.on_write = lambda: None
    bench.download.resumeProducing()
    bench.first.receiver.chunk_received(CONTENT[6:])
    bench.first.receiver.body_ended(None)
    assert bench.log[5:] == ["first resume", CONTENT[6:], "first close", "unregister"]
    assert bench.outcome == ["done"]


def test_a_pause_and_resume_inside_write(bench: Bench) -> None:
    """A consumer may pause and resume within one *write*."""
    bench.deliver()

    def on_write() -> None:
        bench.download.pauseProducing()
        bench.download.resumeProducing()

    bench.consumer.on_write = on_write
    bench.first.receiver.chunk_received(CONTENT)
    assert bench.download.state is State.FLOWING
    bench.first.receiver.body_ended(None)
    assert bench.log == [
        "register",
        "first stream",
        CONTENT,
        "first pause",
        "first resume",
        "first close",
        "unregister",
    ]


def test_a_stop_inside_write(bench: Bench) -> None:
    """A consumer that stops within *write* gets nothing more."""
    bench.deliver()
    bench.consumer.on_write = lambda: bench.download.stopProducing()
    bench.first.receiver.chunk_received(CONTENT[:4])
    bench.first.receiver.chunk_received(CONTENT[4:])
    assert bench.log == ["register", "first stream", CONTENT[:4], "first close", "unregister"]
    assert bench.failed_with(ConsumerStoppedError)


def raise_disk_full() -> None:
    raise OSError(28, "No space left on device")


def test_an_error_inside_write(bench: Bench) -> None:
    """An exception of the consumer's *write* ends the download and reaches the caller."""
    bench.deliver()
    bench.consumer.on_write = raise_disk_full
    bench.first.receiver.chunk_received(CONTENT[:4])
    bench.first.receiver.chunk_received(CONTENT[4:])
    assert bench.log == ["register", "first stream", CONTENT[:4], "first close", "unregister"]
    assert bench.failed_with(OSError)
    assert bench.outcome[0].errno == 28
    assert bench.download.state is State.FAILED


def test_an_error_inside_write_after_resuming(bench: Bench) -> None:
    """An exception of *write* ends a resumed download, too."""
    bench.in_state(State.REOPENING)
    bench.consumer.on_write = raise_disk_full
    bench.answer(3, on_stream=lambda: bench.download.chunk_received(CONTENT[3:]))
    assert bench.log == ["next stream", CONTENT[3:], "next close", "unregister"]
    assert bench.failed_with(OSError)


def test_a_pause_inside_register(bench: Bench) -> None:
    """A consumer that pauses while it is registered gets no byte before it resumes."""
    bench.consumer.on_register = lambda: bench.download.pauseProducing()
    bench.deliver()
    assert bench.log == ["register"]
    bench.clock.advance(PARK_SECONDS - 0.1)
    bench.download.resumeProducing()
    assert bench.log == ["register", "first stream"]
    bench.download.abandon()


def test_a_pause_inside_register_is_parked(bench: Bench) -> None:
    """A consumer that pauses while it is registered is parked if it does not resume in time."""
    bench.consumer.on_register = lambda: bench.download.pauseProducing()
    bench.deliver()
    bench.clock.advance(PARK_SECONDS)
    assert bench.log == ["register", "first close"]
    bench.download.resumeProducing()
    assert bench.log[2:] == ["reopen at 0"]
    bench.download.abandon()


def test_a_resume_inside_register(bench: Bench) -> None:
    """A consumer that resumes while it is registered starts the body once."""
    bench.consumer.on_register = lambda: bench.download.resumeProducing()
    bench.deliver()
    assert bench.log == ["register", "first stream"]
    bench.download.abandon()


def test_a_stop_inside_register(bench: Bench) -> None:
    """A consumer that stops while it is registered gets no byte."""
    bench.consumer.on_register = lambda: bench.download.stopProducing()
    bench.deliver()
    assert bench.log == ["register", "first close", "unregister"]
    assert bench.failed_with(ConsumerStoppedError)


def test_an_error_inside_register(bench: Bench) -> None:
    """A consumer that refuses a producer is not unregistered from."""

    def refuse() -> None:
        raise RuntimeError("there is a producer already")

    bench.consumer.on_register = refuse
    bench.deliver()
    assert bench.log == ["register", "first close"]
    assert bench.failed_with(RuntimeError)


def test_an_error_inside_unregister(bench: Bench) -> None:
    """A consumer that fails at the end fails the download: its last bytes may be missing."""
    bench.consumer.on_unregister = raise_disk_full
    bench.deliver()
    bench.first.receiver.chunk_received(CONTENT)
    bench.first.receiver.body_ended(None)
    assert bench.log == ["register", "first stream", CONTENT, "first close", "unregister"]
    assert bench.failed_with(OSError)


def test_a_write_inside_resume(bench: Bench) -> None:
    """Bytes that come inside *resumeProducing*, and a pause during them, are in order."""
    bench.in_state(State.PAUSED)
    bench.consumer.on_write = lambda: bench.download.pauseProducing()
    bench.first.resume = lambda: bench.download.chunk_received(CONTENT[:5])  # type: ignore[method-assign]
    bench.download.resumeProducing()
    assert bench.log == [CONTENT[:5], "first pause"]
    assert bench.download.state is State.PAUSED
    bench.download.abandon()


def test_the_end_inside_stream(bench: Bench) -> None:
    """A body that is complete already is delivered within *deliver*."""

    def all_at_once() -> None:
        bench.first.receiver.chunk_received(CONTENT)
        bench.first.receiver.body_ended(None)

    bench.first.on_stream = all_at_once
    bench.deliver()
    assert bench.log == ["register", "first stream", CONTENT, "first close", "unregister"]
    assert bench.outcome == ["done"]


def test_everything_is_released_before_the_deferred_fires(bench: Bench) -> None:
    """When the Deferred fires, slot and consumer are released already."""
    bench.deliver().addCallback(lambda _: bench.log.append("fired"))
    bench.first.receiver.chunk_received(CONTENT)
    bench.first.receiver.body_ended(None)
    assert bench.log[-3:] == ["first close", "unregister", "fired"]


def test_a_failure_of_reopening_itself_is_told(bench: Bench) -> None:
    """Any exception on the way to the rest ends the download."""
    bench.in_state(State.REOPENING)
    bench.asked[-1].errback(CancelledError())
    assert bench.failed_with(CancelledError)


# Small bodies


def whole(content: bytes = CONTENT) -> tuple[WholeDownload, LoggedConsumer, list[Any]]:
    log: list[Any] = []
    return WholeDownload(info_of(content, len(content)), content), LoggedConsumer(log), log


def outcome_of(done: Deferred[None]) -> Any:
    outcomes: list[Any] = []
    done.addCallbacks(
        lambda _: outcomes.append("done"), lambda failure: outcomes.append(failure.value)
    )
    (outcome,) = outcomes
    return outcome


def test_a_small_body_is_written_at_once() -> None:
    """A body that was read already comes in one piece."""
    download, consumer, log = whole()
    assert outcome_of(download.deliver(consumer)) == "done"
    assert log == ["register", CONTENT, "unregister"]
    download.abandon()


def test_an_empty_body_is_a_success() -> None:
    """An object without content is delivered as such."""
    download, consumer, log = whole(b"")
    assert outcome_of(download.deliver(consumer)) == "done"
    assert [entry for entry in log if entry != b""] == ["register", "unregister"]


def test_a_small_body_to_a_consumer_that_stops() -> None:
    """A consumer that has stopped is not written to."""
    download, consumer, log = whole()
    consumer.on_register = lambda: download.stopProducing()
    assert isinstance(outcome_of(download.deliver(consumer)), ConsumerStoppedError)
    assert log == ["register", "unregister"]


def test_a_small_body_to_a_consumer_that_fails() -> None:
    """An exception of the consumer reaches the caller, and the producer is unregistered."""
    download, consumer, log = whole()
    consumer.on_write = raise_disk_full
    assert isinstance(outcome_of(download.deliver(consumer)), OSError)
    assert log == ["register", CONTENT, "unregister"]


def test_a_small_body_that_was_abandoned() -> None:
    """An abandoned body is never delivered as an empty one."""
    download, consumer, log = whole()
    download.abandon()
    download.abandon()
    assert isinstance(outcome_of(download.deliver(consumer)), ConsumerStoppedError)
    assert log == []
