"""One request for several coroutines, step by step; no Swift is needed for that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context
from synapse.module_api import make_deferred_yieldable, run_in_background
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from swift_provider.client import Asking, Download, ObjectInfo, WholeDownload
from swift_provider.errors import ObjectNotFoundError, ServerBusyError, SwiftError, Target
from swift_provider.module.log_context import begin_for_caller, log_for_callers
from swift_provider.module.shared_download import SharedDownload
from tests.module.homeservers import FORBIDDEN

logger = logging.getLogger("swift_provider.test")
TARGET = Target("GET", "media", "name")


class Stream(Download):
    """A large file."""

    def __init__(self) -> None:
        self.abandoned = False

    def deliver(self, consumer: Any) -> Deferred[None]:
        raise NotImplementedError

    def abandon(self) -> None:
        self.abandoned = True


class House:
    """A request that ends when the test says so, and the coroutines that wait for it.

    :ivar results: what each coroutine got: a download, ``None`` or an error.
    :ivar contexts: the log context in which it got that.
    :ivar then: what it does at once with its result.
    """

    def __init__(self) -> None:
        self.answer: Deferred[Download] = Deferred()
        self.cancelled = self.asked = self.ended = 0
        self.results: dict[str, Any] = {}
        self.contexts: dict[str, str] = {}
        self.then: dict[str, Callable[[Any], None]] = {}
        self.shared = SharedDownload(self._ask, self._ended, Asking(Clock()))

    async def _ask(self, shared: SharedDownload) -> Download:
        self.asked += 1
        self.context = copy_context()  # as a streamed download does
        logger.info("asking")
        try:
            return await self.answer
        except CancelledError:
            self.cancelled += 1
            raise
        finally:
            logger.info("answered")

    def _ended(self, shared: SharedDownload) -> None:
        self.ended += 1

    def join(self, name: str) -> Deferred[Any]:
        """A request of a client, as the provider handles it."""
        joined: list[Deferred[Any]] = []

        async def request() -> None:
            with LoggingContext(name=name, server_name="here"):
                joining = begin_for_caller(self.shared.join)
                joined.append(joining)
                try:
                    self.results[name] = await make_deferred_yieldable(joining)
                except (SwiftError, CancelledError) as error:
                    self.results[name] = error
                self.contexts[name] = str(current_context())
                if name in self.then:
                    self.then[name](self.results[name])

        with PreserveLoggingContext():
            run_in_background(request)
        return joined[0]

    def end(self, result: Any) -> None:
        self.answer.callback(result)


class Lines(logging.Handler):
    """Each line of the root logger, with its log context."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.getMessage(), str(current_context())))


@pytest.fixture
def lines() -> Iterator[Lines]:
    root, handler = logging.getLogger(), Lines()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    log_for_callers("here")
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def house(lines: Lines) -> Iterator[House]:
    """Afterwards Synapse may not have complained about log contexts."""
    yield House()
    assert not [text for text, _ in lines.seen if FORBIDDEN.search(text)]
    assert not current_context()


def whole(content: bytes = b"small") -> WholeDownload:
    info = ObjectInfo("name", len(content), "etag", "", "")
    return WholeDownload(info, content)


def test_each_gets_its_own(house: House) -> None:
    """There is one request, and each coroutine gets another download of the same bytes, in its
    own log context.
    """
    names = [f"GET-{number}" for number in range(50)]
    for name in names:
        house.join(name)
    assert house.results == {}
    house.end(whole())
    assert house.asked == 1
    assert list(house.results) == names
    downloads = list(house.results.values())
    assert len({id(download) for download in downloads}) == 50
    assert len({id(download.content) for download in downloads}) == 1
    downloads[0].abandon()
    assert downloads[1].content == b"small"
    assert house.contexts == {name: name for name in names}
    assert house.ended


def test_answer_at_once(house: House) -> None:
    """A request may end before it is waited for."""
    house.end(whole())
    house.join("GET-1")
    assert house.results["GET-1"].content == b"small"
    assert house.contexts == {"GET-1": "GET-1"}


def test_large_file(house: House) -> None:
    """The first coroutine gets the stream, the others are told to ask themselves."""
    for name in ("GET-1", "GET-2", "GET-3"):
        house.join(name)
    stream = Stream()
    house.end(stream)
    assert house.results == {"GET-1": stream, "GET-2": None, "GET-3": None}
    assert not stream.abandoned


@pytest.mark.parametrize("leaving", [[], ["GET-1"]])
def test_later_lines_of_a_stream(house: House, lines: Lines, leaving: list[str]) -> None:
    """What a stream logs later, when it is resumed, gets the log context of its coroutine."""
    names = ["GET-1", "GET-2", "GET-3"]
    joined = {name: house.join(name) for name in names}
    with PreserveLoggingContext():
        for name in leaving:
            joined[name].cancel()
    taker = next(name for name in names if name not in leaving)

    def resume(stream: Stream) -> None:
        with PreserveLoggingContext():  # as the reactor calls
            house.context.run(logger.info, "resumed")

    house.then[taker] = resume
    house.end(Stream())
    assert ("resumed", taker) in lines.seen


@pytest.mark.parametrize("leaving", [["GET-1"], ["GET-2"], ["GET-1", "GET-2"]])
def test_some_hang_up(house: House, lines: Lines, leaving: list[str]) -> None:
    """A coroutine that is cancelled, the first one too, cancels nothing for the others. The
    request's log lines then get the log context of one that still waits.
    """
    names = ["GET-1", "GET-2", "GET-3"]
    joined = {name: house.join(name) for name in names}
    with PreserveLoggingContext():
        for name in leaving:
            joined[name].cancel()
    stream = Stream()
    house.end(stream)
    staying = [name for name in names if name not in leaving]
    assert [type(house.results[name]) for name in leaving] == [CancelledError] * len(leaving)
    assert house.results[staying[0]] is stream
    assert all(house.results[name] is None for name in staying[1:])
    assert house.cancelled == 0
    assert lines.seen == [("asking", "GET-1"), ("answered", staying[0])]


def test_all_hang_up(house: House, lines: Lines) -> None:
    """When the last one is cancelled, the request is too, and nobody can join it any more."""
    joined = [house.join(name) for name in ("GET-1", "GET-2")]
    with PreserveLoggingContext():
        joined[0].cancel()
        assert (house.cancelled, house.ended) == (0, 0)
        joined[1].cancel()
    assert house.cancelled == 1
    assert house.ended
    assert {type(result) for result in house.results.values()} == {CancelledError}
    assert lines.seen[-1] == ("answered", "swift")


def test_answer_in_spite_of_the_cancellation(house: House) -> None:
    """A stream that comes when nobody waits any more is released."""
    stream = Stream()
    house.answer = Deferred(lambda answer: answer.callback(stream))
    joined = house.join("GET-1")
    with PreserveLoggingContext():
        joined.cancel()
    assert stream.abandoned


def test_one_hangs_up_when_another_is_answered(house: House) -> None:
    """A coroutine that is cancelled by one that was just answered gets its cancellation."""
    house.join("GET-1")
    second = house.join("GET-2")
    house.join("GET-3")

    def hang_up(download: WholeDownload) -> None:
        with PreserveLoggingContext():
            second.cancel()

    house.then["GET-1"] = hang_up
    house.end(whole())
    assert isinstance(house.results["GET-2"], CancelledError)
    assert house.results["GET-3"].content == b"small"


def test_one_is_done_when_the_next_is_answered(house: House) -> None:
    """A coroutine delivers its download and abandons it before the next one is woken."""
    house.then["GET-1"] = lambda download: download.abandon()
    house.join("GET-1")
    house.join("GET-2")
    house.end(whole())
    assert house.results["GET-2"].content == b"small"


@pytest.mark.parametrize("kind", [ServerBusyError, ObjectNotFoundError])
def test_error(house: House, kind: type[SwiftError]) -> None:
    """Each coroutine gets the error as an exception of its own, with all that it says."""
    names = ["GET-1", "GET-2", "GET-3"]
    for name in names:
        house.join(name)
    error = TARGET.error(kind, "no", status=503, transaction_id="tx1", retry_after=7.0)
    house.answer.errback(error)
    errors = [house.results[name] for name in names]
    assert len({id(each) for each in errors}) == 3
    assert {type(each) for each in errors} == {kind}
    assert {str(each) for each in errors} == {"GET media/name: no (HTTP 503, transaction tx1)"}
    assert {each.retry_after for each in errors} == {7.0}
    frames = [_depth(each) for each in errors]
    assert frames[1] == frames[2] < 10
    assert house.contexts == {name: name for name in names}


def _depth(error: BaseException) -> int:
    depth, traceback = 0, error.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    return depth
