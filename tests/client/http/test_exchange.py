"""One exchange: its time limits, answers that come early, and its end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from swift_provider.client import Place, SwiftClient
from swift_provider.errors import (
    AccessDeniedError,
    DamagedError,
    InsufficientStorageError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    TimedOutError,
)
from tests.client.conftest import Faulty, PutObject, Sink
from tests.client.trouble import (
    HUGE,
    LARGE,
    NO_PATIENCE,
    SMALL,
    MakeFile,
    begin,
    cancelled,
    content_of,
    descriptors,
    fetch,
    gets,
    nothing_in_flight,
    settled,
    soon,
    started,
    stored,
    until,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Stall,
    Then,
    in_request,
    in_response,
)

# Time limits


@pytest.fixture
def blackhole() -> Iterator[str]:
    """A URL to which no connection is ever made: the queue of its port is full."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listening.getsockname())
        waiting.append(filler)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/AUTH_x"
    for each in (*waiting, listening):
        each.close()


async def test_connecting_is_limited(make_client: Any, container: str, make_file: MakeFile) -> None:
    """A host that does not accept the connection ends an upload with an error that says so."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            client = make_client(
                storage_url=f"http://127.0.0.1:{port}/v1/AUTH_x",
                connect_timeout=0.3,
                patience=NO_PATIENCE,
            )
            store = Place(client, container)
            with pytest.raises(TimedOutError, match=r"no connection was made for 0\.3 seconds"):
                await store.put("name", make_file(b"x"))
            assert client.slots.in_flight == 0


async def test_a_host_that_does_not_answer(
    make_client: Callable[..., SwiftClient], container: str, blackhole: str
) -> None:
    """A host that does not accept the connection ends a download with an error that says so."""
    client = make_client(storage_url=blackhole, connect_timeout=0.2)
    store = Place(client, container)
    with pytest.raises(TimedOutError, match=r"no connection was made for 0\.2 seconds"):
        await store.get("object")
    assert client.slots.in_flight == 0


@pytest.mark.parametrize("size", [0, 60_000, LARGE])
async def test_waiting_for_the_answer_is_limited(
    faulty: Faulty, container: str, make_file: MakeFile, size: int
) -> None:
    """A server that takes the upload and does not answer ends in an error that says so."""
    store = faulty.store(container, patience=NO_PATIENCE, response_timeout=1)
    faulty.proxy.add(Answer(0, raw=b"", after=None, match=("PUT", "")))
    with pytest.raises(TimedOutError, match="no answer came for 1 seconds"):
        await store.put("name", make_file(content_of(size)))
    await nothing_in_flight(faulty)


async def test_a_server_without_an_answer(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A download without an answer ends in an error that names the time limit."""
    await put_object(content_of(SMALL))
    faulty.proxy.add(Stall(BEFORE_RESPONSE, times=None))
    # Keystone has to answer within this limit, too.
    with pytest.raises(TimedOutError, match="no answer came for 1 seconds"):
        await faulty.store(container, response_timeout=1).get("object")
    await faulty.proxy.wait_closed()


async def test_a_stalled_upload_is_limited(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """A server that stops taking the body ends in an error that says so."""
    store = faulty.store(container, patience=NO_PATIENCE, idle_timeout=0.5)
    # At the beginning: the more a peer has taken, the more its kernel makes room for.
    faulty.proxy.add(Stall(in_request(0), match=("PUT", "")))
    with pytest.raises(TimedOutError, match=r"no byte could be sent for 0\.5 seconds"):
        await store.put("name", make_file(content_of(HUGE)))
    await nothing_in_flight(faulty)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
async def test_a_body_that_stays_silent(
    faulty: Faulty, container: str, put_object: PutObject, size: int
) -> None:
    """A download whose body stays silent ends in an error that names the time limit."""
    await put_object(content_of(size))
    faulty.proxy.add(Stall(in_response(1000)), Stall(in_response(0), times=None))
    with pytest.raises(TimedOutError, match=r"the body fell silent for 0\.2 seconds"):
        await fetch(faulty.store(container, idle_timeout=0.2))
    await faulty.proxy.wait_closed()


async def test_a_paused_body_may_be_silent(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """The limit on silence does not count while the consumer is paused."""
    await put_object(content_of(LARGE))
    sink = Sink(pause_after=1)
    done = (await faulty.store(container, idle_timeout=1).get("object")).deliver(sink)
    await until(lambda: sink.content)
    await deferLater(reactor, 2.5)
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert len(gets(faulty)) == 1


# Answers


FINAL = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    413: ObjectTooLargeError,
    422: DamagedError,
    507: InsufficientStorageError,
}


@pytest.mark.parametrize(("status", "size"), [(403, SMALL), *((status, HUGE) for status in FINAL)])
@pytest.mark.parametrize("then", list(Then))
@pytest.mark.parametrize("body_delay", [None, 0.1])
async def test_an_early_answer_is_taken(
    faulty: Faulty,
    container: str,
    make_file: MakeFile,
    status: int,
    size: int,
    then: Then,
    body_delay: float | None,
) -> None:
    """An answer that comes before the body is sent is used, whatever the server does next."""
    sending = faulty.store(container, patience=NO_PATIENCE, response_timeout=5, idle_timeout=5)
    faulty.proxy.add(
        Answer(
            status,
            b"<h1>because</h1>",
            after=size // 3,
            then=then,
            body_delay=body_delay,
            times=None,
            match=("PUT", ""),
        )
    )
    with pytest.raises(FINAL[status], match=f"because.*HTTP {status}"):
        await sending.put("name", make_file(content_of(size)))
    await nothing_in_flight(faulty)


async def test_answers_without_a_body_that_announce_one(faulty: Faulty, container: str) -> None:
    """The client does not wait for the body that a HEAD's 404 of Ceph RGW announces."""
    store = faulty.store(container, response_timeout=5, idle_timeout=5)
    for length in ("9", "12"):
        faulty.proxy.add(
            Answer(404, headers={"Content-Length": length}, match=("HEAD", "/object$"))
        )
        with pytest.raises(ObjectNotFoundError):
            await store.head("object")


# Cancelling


async def test_cancelled_while_connecting(
    make_client: Any, container: str, make_file: MakeFile
) -> None:
    """Cancelling an upload ends a connection attempt."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            client = make_client(storage_url=f"http://127.0.0.1:{port}/v1/AUTH_x")
            store = Place(client, container)
            upload = begin(store.put("name", make_file(b"x")))
            await until(lambda: _connecting(port))
            await cancelled(upload)
            assert client.slots.in_flight == 0
            await until(lambda: not _connecting(port))


def _connecting(port: int) -> bool:
    """Whether a socket of this machine is in SYN_SENT to the port."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows[1:])


async def test_cancelling_while_connecting(
    make_client: Callable[..., SwiftClient], container: str, blackhole: str
) -> None:
    """Cancelling a download ends a connection attempt."""
    client = make_client(storage_url=blackhole)
    store = Place(client, container)
    before = descriptors()
    deferred, outcome = started(store.get("object"))
    await until(lambda: descriptors() > before)
    await settled(descriptors)
    deferred.cancel()
    assert isinstance(outcome[0], CancelledError)
    assert client.slots.in_flight == 0
    await until(lambda: descriptors() <= before)


@pytest.mark.parametrize(
    ("place", "size"),
    [
        (ON_REQUEST, 60_000),
        (in_request(0), HUGE),
        (in_request(HUGE // 2), HUGE),
        (BEFORE_RESPONSE, 60_000),
        (BEFORE_RESPONSE, LARGE),
    ],
)
async def test_cancelled_under_way(
    faulty: Faulty,
    store: Place,
    container: str,
    make_file: MakeFile,
    place: Any,
    size: int,
) -> None:
    """Cancelling an upload in flight closes its connection and releases its slot at once."""
    client = faulty.client()
    sending = Place(client, container)
    faulty.proxy.add(stall := Stall(place, match=("PUT", "")))
    upload = begin(sending.put("name", make_file(content_of(size))))
    await soon(stall.happened())
    await cancelled(upload)
    assert (client.slots.in_flight, client.slots.waiting) == (0, 0)
    await soon(begin(faulty.proxy.wait_closed()))
    await nothing_in_flight(faulty)
    if place != BEFORE_RESPONSE:
        assert await stored(store, "name") is None
