"""A cancelled operation stays cancelled, whatever Twisted makes of it on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from swift_provider.client import Place, SwiftClient
from tests.client.conftest import Faulty, Sink
from tests.client.trouble import LONG_PATIENCE, MakeFile, begin, content_of, soon, turn, until
from tests.servers.faults import ON_REQUEST, Cut, Stall, in_response


@implementer(IHostnameResolver)
class Unanswered:
    """A name server that never answers.

    :ivar asked: how many names it was asked for.
    """

    def __init__(self) -> None:
        self.asked = 0

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, hostName: str, *_: Any, **__: Any
    ) -> IHostResolution:
        self.asked += 1

        @implementer(IHostResolution)
        class Resolution:
            name = hostName

            def cancel(self) -> None:
                resolutionReceiver.resolutionComplete()

        resolutionReceiver.resolutionBegan(Resolution())
        return Resolution()


@pytest.fixture
def unanswered() -> Iterator[Unanswered]:
    resolver = Unanswered()
    before = reactor.installNameResolver(resolver)
    yield resolver
    reactor.installNameResolver(before)


@pytest.mark.parametrize(
    "operation",
    [
        lambda store, file: store.get("name"),
        lambda store, file: store.head("name"),
        lambda store, file: store.put("name", file),
    ],
    ids=["get", "head", "put"],
)
async def test_cancelled_during_name_resolution(
    make_client: Callable[..., SwiftClient],
    make_file: MakeFile,
    unanswered: Unanswered,
    operation: Callable[[Place, Any], Any],
) -> None:
    """Twisted reports a DNS error then; it is not retried."""
    client = make_client(
        storage_url="http://swift.test/v1/AUTH_x", auth_type="none", auth={}, patience=LONG_PATIENCE
    )
    running = begin(operation(Place(client, "box"), make_file(b"content")))
    await until(lambda: unanswered.asked)
    running.cancel()
    with pytest.raises(CancelledError):
        await soon(running)
    assert unanswered.asked == 1
    assert (client.slots.in_flight, client.slots.waiting) == (0, 0)


async def test_a_download_that_is_abandoned_while_it_resumes(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Its request for the rest is cancelled, and no other follows."""
    client = faulty.client(patience=LONG_PATIENCE)
    store = Place(client, container)
    await store.put("name", make_file(content_of(3_000_000)))
    faulty.proxy.add(
        Cut(in_response(1_000_000), match=("GET", "")),
        stall := Stall(ON_REQUEST, match=("GET", "")),
    )
    download = await store.get("name")
    sink = Sink()
    done = download.deliver(sink)
    await soon(stall.happened())
    seen, size = len(faulty.proxy.requests), len(sink.content)
    download.abandon()
    with pytest.raises(Exception, match="abandoned"):
        await soon(done)
    for _ in range(20):
        await turn()
    assert (client.slots.in_flight, client.slots.waiting) == (0, 0)
    assert (len(faulty.proxy.requests), len(sink.content)) == (seen, size)
