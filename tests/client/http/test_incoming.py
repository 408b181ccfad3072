"""What comes before an answer can be used is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol

from swift_provider.client.http.incoming import MOST_EARLY_BYTES, Incoming
from swift_provider.errors import ServerBusyError
from tests.client.conftest import Faulty, PutObject
from tests.client.trouble import HUGE, NO_PATIENCE, MakeFile, content_of, nothing_in_flight
from tests.servers.faults import Answer, Then

HEADERS = b"".join(b"X-Header-%04d: %b\r\n" % (number, b"y" * 100) for number in range(2000))


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/1.1 200 OK\r\n" + HEADERS, b"HTTP/1.1 102 Processing\r\nX-Header: y\r\n\r\n" * 5000],
    ids=["headers", "1xx answers"],
)
async def test_headers_without_end(faulty: Faulty, container: str, raw: bytes) -> None:
    """The client does not keep them until the time limit on the answer."""
    store = faulty.store(container, patience=NO_PATIENCE)
    faulty.proxy.add(Answer(0, raw=raw, match=("GET", "/object$")))
    with pytest.raises(ServerBusyError, match="its headers do not end"):
        await store.get("object")
    await nothing_in_flight(faulty)


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (Then.STOP_READING, "sends a long body while the request"),
        # If the rest of the file is sent first, it is the usual answer to a failure.
        (Then.READ_ON, "sends a long body while the request|Swift failed on its side"),
    ],
)
async def test_a_long_body_during_an_upload(
    faulty: Faulty, container: str, make_file: MakeFile, then: Then, reason: str
) -> None:
    """The body of an early answer is not kept without a limit until the file is sent."""
    store = faulty.store(container, patience=NO_PATIENCE)
    early = Answer(500, b"x" * HUGE, after=HUGE // 3, then=then, match=("PUT", "/name$"))
    faulty.proxy.add(early)
    with pytest.raises(ServerBusyError, match=reason):
        await store.put("name", make_file(content_of(HUGE)))
    await nothing_in_flight(faulty)


async def test_many_headers_are_no_flood(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """More than any Swift sends is still read."""
    await put_object(b"content")
    metadata = {f"X-Object-Meta-{number}": "y" * 200 for number in range(200)}
    found = {"X-Timestamp": "1700000000.00000", "Content-Length": "7", **metadata}
    faulty.proxy.add(Answer(200, headers=found, match=("HEAD", "/object$")))
    assert (await faulty.store(container).head("object")).size == 7


class Http(Protocol):
    """In the place of Twisted's protocol: the answer is there with ``end``."""

    def __init__(self) -> None:
        self.received = 0
        self.at_end: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if data.endswith(b"end"):
            self.at_end()


def test_each_request_counts_anew_and_its_body_does_not_count() -> None:
    """Only what comes between a request and its answer is counted."""
    http, floods = Http(), []
    incoming = Incoming(http, {})
    http.at_end = incoming.end
    for _ in range(3):
        incoming.begin(lambda: floods.append("flood"))
        incoming.dataReceived(b"x" * (MOST_EARLY_BYTES // 2))
        incoming.dataReceived(b"x" * MOST_EARLY_BYTES + b"end")
        incoming.dataReceived(b"x" * MOST_EARLY_BYTES)
        assert floods == []
    incoming.begin(lambda: floods.append("flood"))
    for _ in range(5):
        incoming.dataReceived(b"x" * (MOST_EARLY_BYTES // 2))
    assert floods == ["flood"]
    assert http.received == 3 * (MOST_EARLY_BYTES * 5 // 2 + 3) + MOST_EARLY_BYTES * 5 // 2


def test_a_connection_is_known_while_it_is_open() -> None:
    """Nothing is kept of one that was lost."""
    known: dict[Any, Incoming] = {}
    incoming = Incoming(Http(), known)
    incoming.makeConnection(None)
    assert known == {incoming.http: incoming}
    incoming.connectionLost(None)
    assert known == {}


def test_the_end_of_the_answer_before() -> None:
    """A chunk that ends one answer does not count for the request which begins then."""
    floods: list[str] = []

    class Http(Protocol):
        def dataReceived(self, data: bytes) -> None:
            incoming.end()
            incoming.begin(lambda: floods.append("second"))

    incoming = Incoming(Http(), {})
    incoming.begin(lambda: floods.append("first"))
    incoming.dataReceived(b"x" * (MOST_EARLY_BYTES + 1))
    assert floods == []
    Http.dataReceived = lambda self, data: None  # type: ignore[method-assign]
    incoming.dataReceived(b"x" * (MOST_EARLY_BYTES + 1))
    assert floods == ["second"]
