"""What the tests of the client have in common."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock, deferLater

from swift_provider.client import FileSource, Patience, Place
from swift_provider.errors import ObjectNotFoundError
from tests.client.conftest import Faulty, Sink

MakeFile = Callable[[bytes], FileSource]

#: No retry, except those that happen at once.
NO_PATIENCE = Patience(
    total_seconds=0.0, first_delay=0.01, longest_delay=0.01, operation_seconds=30.0
)
#: Long enough to retry after a time limit of a second.
LONG_PATIENCE = Patience(
    total_seconds=20.0, first_delay=0.01, longest_delay=0.1, operation_seconds=30.0
)
#: For a failure that lasts: as many attempts as there is time for, and one is enough.
NO_TIME = Patience(total_seconds=0.15, first_delay=0.01, longest_delay=0.05, operation_seconds=30.0)
#: A few attempts, at least two.
SHORT_PATIENCE = Patience(
    total_seconds=1.5, first_delay=0.01, longest_delay=0.05, operation_seconds=30.0
)

#: Read and hashed at once; and read in threads, in several chunks.
SMALL, LARGE = 60_000, 3_000_000
MIB = 1024 * 1024
#: More than all buffers on the way to Swift hold together.
HUGE = 16_000_000


@cache
def content_of(size: int) -> bytes:
    """Bytes that no shift or repetition leaves the same."""
    return random.Random(size).randbytes(size)


def begin(operation: Any) -> Deferred[Any]:
    """Start a coroutine; the Deferred can be cancelled."""
    return ensureDeferred(operation)


async def soon(deferred: Deferred[Any]) -> Any:
    """Wait for a Deferred, for at most 20 seconds."""
    return await deferred.addTimeout(20, reactor)


class TurningClock(Clock):
    """A clock in the place of the reactor: its next turn comes when it is advanced, even by 0."""

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.callLater(0, call, *arguments)


async def turn() -> None:
    """Let the reactor turn once."""
    await deferLater(reactor, 0)


def set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the reactor's clock back by an hour, for the rest of the test."""
    seconds = reactor.seconds
    monkeypatch.setattr(reactor, "seconds", lambda: seconds() - 3600)


async def until(true: Callable[[], Any]) -> None:
    """Let the reactor run until a condition is true, for at most 20 seconds."""
    deadline = reactor.seconds() + 20
    while not true():
        assert reactor.seconds() < deadline, "never became true"
        await deferLater(reactor, 0.002)


async def stored(store: Place, name: str) -> bytes | None:
    """The content that Swift has under this name; ``None`` if there is no object."""
    try:
        download = await store.get(name)
    except ObjectNotFoundError:
        return None
    sink = Sink()
    await download.deliver(sink)
    return sink.content


def puts(faulty: Faulty) -> list[Any]:
    """The PUT requests that the proxy saw."""
    return [seen for seen in faulty.proxy.requests if seen.method == "PUT"]


async def nothing_in_flight(faulty: Faulty) -> None:
    """Every slot is free, and no connection carries anything any more."""
    await turn()
    for client in faulty.clients:
        assert (client.slots.in_flight, client.slots.waiting) == (0, 0)
    await soon(begin(faulty.proxy.wait_idle()))
    for client in faulty.clients:
        await client.close()
    await soon(begin(faulty.proxy.wait_closed()))


async def cancelled(operation: Deferred[Any]) -> None:
    """Cancel an operation, which must end at once with ``CancelledError``."""
    ended: list[Any] = []
    operation.addErrback(lambda failure: failure.trap(CancelledError)).addBoth(ended.append)
    operation.cancel()
    await turn()
    assert ended == [CancelledError]


async def fetch(store: Place, sink: Sink | None = None) -> bytes:
    """The content of ``object``, as a consumer gets it."""
    sink = sink or Sink()
    download = await store.get("object")
    await download.deliver(sink)
    return sink.content


def started(coroutine: Any) -> tuple[Deferred[Any], list[Any]]:
    """Begin an operation; the list gets its result or its error."""
    outcome: list[Any] = []
    deferred = ensureDeferred(coroutine)
    deferred.addCallbacks(outcome.append, lambda failure: outcome.append(failure.value))
    return deferred, outcome


async def settled(number: Callable[[], int]) -> int:
    """A number, once it has not changed for a quarter of a second."""
    last, since = None, reactor.seconds()
    while reactor.seconds() - since < 0.25:
        if number() != last:
            last, since = number(), reactor.seconds()
        await deferLater(reactor, 0.01)
    assert last is not None
    return last


def gets(faulty: Faulty) -> list[Any]:
    """The requests for the object, in order."""
    return [r for r in faulty.proxy.requests if r.method == "GET" and r.path.endswith("/object")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def segments_of(faulty: Faulty) -> list[Any]:
    """The PUT requests for segments that the proxy saw, objects only."""
    return [seen for seen in puts(faulty) if re.search(r"_segments/.", seen.path)]


def slo_etag(content: bytes, segment_size: int = MIB) -> str:
    parts = [content[at : at + segment_size] for at in range(0, len(content), segment_size)]
    return hashlib.md5("".join(hashlib.md5(p).hexdigest() for p in parts).encode()).hexdigest()
