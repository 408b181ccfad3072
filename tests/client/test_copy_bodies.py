"""The body of a copy, step by step: what it hands over, and when."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface import implementer

from swift_provider.client.copy_bodies import CopyBody, PassingBytes
from swift_provider.errors import (
    ServerBusyError,
    SourceFailedError,
    SwiftProviderError,
    Target,
    TimedOutError,
)

CONTENT = b"first second third"
TARGET = Target("GET", "box", "name")


@implementer(IPushProducer)
class Bench:
    """A download and a connection, which do one step when told to."""

    def __init__(self) -> None:
        self.opened: Deferred[Any] = Deferred(lambda _: self.events.append("cancelled"))
        self.delivered: Deferred[None] = Deferred(lambda _: self.events.append("cancelled"))
        self.clock = Clock()
        self.passing = PassingBytes(hashlib.md5(CONTENT).hexdigest(), None, None)
        self.sent = b""
        self.events: list[str] = []
        self.ended: list[Any] = []
        self.body = CopyBody(
            len(CONTENT), self._open, self.passing, TARGET, self._failed, self.clock, 10
        )
        self.body.startProducing(self).addBoth(self._end)  # type: ignore[arg-type]

    async def _open(self) -> Any:
        await self.opened
        return self

    def _failed(self, error: SwiftProviderError) -> SwiftProviderError:
        return SourceFailedError(error, error.temporary)

    def _end(self, result: Any) -> None:
        self.ended.append(getattr(result, "value", result))

    # The download

    def deliver(self, consumer: Any) -> Deferred[None]:
        consumer.registerProducer(self, True)
        return self.delivered

    def receive(self, data: bytes) -> None:
        self.passing.update(data)
        self.body.write(data)

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")

    # The connection

    def write(self, data: bytes) -> None:
        self.sent += data


def test_the_last_bytes_wait_for_the_end_of_the_download() -> None:
    """Only it says that all bytes were right."""
    bench = Bench()
    sizes: list[tuple[int, bool]] = []
    bench.body.on_progress = lambda size: sizes.append((size, bench.body.finished))
    bench.opened.callback(None)
    for chunk in (b"first ", b"second ", b"third"):
        bench.receive(chunk)
    assert (bench.sent, bench.body.finished, bench.ended) == (b"first second ", False, [])
    bench.delivered.callback(None)
    assert (bench.sent, bench.body.finished, bench.ended) == (CONTENT, True, [None])
    assert sizes == [(6, False), (7, False), (5, True)]
    assert bench.body.md5 == bench.body.declared_md5
    assert not bench.clock.getDelayedCalls()


def test_pauses_reach_the_download() -> None:
    """Also one from before it began. Silence is allowed meanwhile."""
    bench = Bench()
    bench.body.pauseProducing()
    bench.opened.callback(None)
    assert bench.events == ["pause"]
    bench.clock.advance(100)
    bench.body.resumeProducing()
    bench.body.resumeProducing()
    bench.receive(b"first ")
    bench.body.pauseProducing()
    assert bench.events == ["pause", "resume", "pause"]
    bench.body.stopProducing()
    assert not bench.clock.getDelayedCalls()


def test_a_download_that_fails() -> None:
    """So does the body, which says whose error it is."""
    bench = Bench()
    bench.opened.callback(None)
    bench.receive(b"first ")
    error = TARGET.error(ServerBusyError, "busy")
    bench.delivered.errback(error)
    (failed,) = bench.ended
    assert isinstance(failed, SourceFailedError)
    assert (failed.error, failed.temporary, str(failed)) == (error, True, str(error))
    assert not bench.body.finished
    assert not bench.clock.getDelayedCalls()


def test_a_download_that_falls_silent() -> None:
    """It is cancelled, before or after its first byte."""
    for begun in (False, True):
        bench = Bench()
        if begun:
            bench.clock.advance(9)
            bench.opened.callback(None)
            bench.receive(b"first ")
        bench.clock.advance(9)
        assert bench.ended == []
        bench.clock.advance(1)
        (failed,) = bench.ended
        assert isinstance(failed.error, TimedOutError)
        assert str(failed) == "GET box/name: no byte came for 10 seconds"


def test_a_body_that_is_stopped() -> None:
    """It cancels the download, and says nothing more."""
    for begun in (False, True):
        bench = Bench()
        if begun:
            bench.opened.callback(None)
            bench.receive(b"first ")
        bench.body.stopProducing()
        assert bench.events == ["cancelled"]
        assert bench.ended == []
        assert not bench.clock.getDelayedCalls()
