"""What the tests of uploads in trouble have in common."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred

from swift_provider.client import FileSource, Patience, SwiftClient
from swift_provider.errors import ObjectNotFoundError
from tests.client.conftest import Faulty, Sink

MakeFile = Callable[[bytes], FileSource]

#: No other try, but for those that cost no patience.
NO_PATIENCE = Patience(
    total_seconds=0.0, first_delay=0.01, longest_delay=0.01, operation_seconds=30.0
)
#: Time limits of a second are worth another try.
LONG_PATIENCE = Patience(
    total_seconds=20.0, first_delay=0.01, longest_delay=0.1, operation_seconds=30.0
)
#: A few tries, if the machine is not too busy; two in any case.
SHORT_PATIENCE = Patience(
    total_seconds=1.5, first_delay=0.01, longest_delay=0.05, operation_seconds=30.0
)

#: Read and hashed at once; and read in threads, in several chunks.
SMALL, LARGE = 60_000, 3_000_000
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
    """Wait, but not for ever."""
    return await deferred.addTimeout(20, reactor)


async def turn() -> None:
    """Let the reactor turn once."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    await done


async def until(true: Callable[[], Any]) -> None:
    """Let the reactor turn until it is true; for what has no event of its own."""
    deadline = reactor.seconds() + 20
    while not true():
        assert reactor.seconds() < deadline, "never became true"
        done: Deferred[None] = Deferred()
        reactor.callLater(0.002, done.callback, None)
        await done


async def stored(client: SwiftClient, container: str, name: str) -> bytes | None:
    """What Swift has under this name; ``None`` for nothing."""
    try:
        download = await client.get_object(container, name)
    except ObjectNotFoundError:
        return None
    sink = Sink()
    await download.deliver(sink)
    return sink.content


def puts(faulty: Faulty) -> list[Any]:
    """The PUT requests that the proxy saw."""
    return [seen for seen in faulty.proxy.requests if seen.method == "PUT"]


async def nothing_under_way(faulty: Faulty, client: SwiftClient) -> None:
    """Every slot was given back, and no connection carries anything any more."""
    await turn()
    assert (client.slots.in_flight, client.slots.waiting) == (0, 0)
    await soon(begin(faulty.proxy.wait_idle()))
    await client.close()
    await soon(begin(faulty.proxy.wait_closed()))
