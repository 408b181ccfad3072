"""The responder in our own process: real Swift, Synapse's own consumers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection, HTTPException, IncompleteRead
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from synapse.media._base import (
    ConsumerRequestedStopError,
    respond_with_multipart_responder,
    respond_with_responder,
)
from synapse.media.media_storage import BackgroundFileConsumer, MultipartFileConsumer
from synapse.module_api.errors import SynapseError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.ftp import FileConsumer
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from swift_provider.client import Place, SwiftClient
from swift_provider.config import parse_settings
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.log_context import begin_for_caller
from swift_provider.module.pull_back import MARK
from swift_provider.module.responder import SwiftResponder
from tests.module.storage import Storage
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import (
    BEFORE_RESPONSE,
    Answer,
    Fault,
    FlipBit,
    Reset,
    Stall,
    Then,
    in_response,
)
from tests.servers.keystone import REGION, Credentials

BODY = bytes(range(256)) * 12_000  # 3 MB


async def no_length() -> int | None:
    """The length by a database that does not tell."""
    return None


class Setup:
    """One object in Swift, behind a fault proxy, and its local path."""

    def __init__(self, client: SwiftClient, proxy: FaultProxy, local: Path) -> None:
        self.client = client
        self.proxy = proxy
        self.local = local
        self.pulled_back: list[int] = []
        self.container = f"responder-{uuid4().hex[:8]}"

    async def responder(self) -> SwiftResponder:
        """What ``fetch`` returns."""
        from twisted.internet import reactor

        download = await Place(self.client, self.container).get("media")
        told = (self.pulled_back.append, no_length)
        return SwiftResponder(download, "media", str(self.local), reactor, deferToThread, *told)

    async def later(self) -> SwiftResponder:
        """What ``fetch`` returns for a HEAD request."""
        from twisted.internet import reactor

        store = Place(self.client, self.container)
        download = LaterDownload(await store.head("media"), partial(store.get, "media"))
        told = (self.pulled_back.append, no_length)
        return SwiftResponder(download, "media", str(self.local), reactor, deferToThread, *told)

    def gets(self) -> int:
        """How many GET requests there were."""
        return sum(seen.method == "GET" for seen in self.proxy.requests)

    async def nothing_left(self) -> None:
        """No slot is taken, and no request is in flight."""
        await self.proxy.wait_idle()
        assert self.client.slots.in_flight == 0


@pytest.fixture
def place(storage: Storage, account: Credentials, tmp_path: Path) -> Iterator[Setup]:
    import pytest_twisted
    from twisted.internet import reactor  # pytest-twisted chooses it
    from twisted.internet.defer import ensureDeferred

    host, port = storage.url.split("/")[2].split(":")
    proxy = FaultProxy(reactor, host, int(port))
    pytest_twisted.blockon(ensureDeferred(proxy.start()))
    settings = parse_settings(
        {
            "container": "unused",
            "auth_type": "password",
            "auth": account.auth(),
            "region_name": REGION,
            "storage_url": proxy.url_for(storage.url),
        }
    )
    client = SwiftClient.from_settings(reactor, settings)
    made = Setup(client, proxy, tmp_path / "media")
    storage.make(made.container)
    storage.put(made.container, "media", BODY)
    yield made
    pytest_twisted.blockon(ensureDeferred(client.close()))
    pytest_twisted.blockon(ensureDeferred(proxy.stop()))


class DiskFull(io.RawIOBase):
    """A file on a full disk: the first write waits for ``go``, then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.asked = threading.Event()

    def open(self, path: Path) -> DiskFull:
        """Make an empty file with this name, as ``open`` would."""
        path.touch()
        return self

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.asked.set()
        self.go.wait(30)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _pull_back(
    responder: SwiftResponder, open_file: Callable[[], Any]
) -> tuple[BackgroundFileConsumer, Deferred]:
    """Pull a file back, as Synapse's ``ensure_media_is_in_local_cache`` does."""
    from twisted.internet import reactor
    from twisted.internet.defer import ensureDeferred

    consumers = []

    async def pull() -> None:
        with responder:
            consumer = BackgroundFileConsumer(open_file(), reactor)
            consumers.append(consumer)
            await responder.write_to_consumer(consumer)
            await consumer.wait()

    pulled = ensureDeferred(pull())
    return consumers[0], pulled


async def test_file_is_pulled_back(place: Setup) -> None:
    """Synapse's file consumer gets every byte; it pauses the download from inside ``write``."""
    _, pulled = _pull_back(await place.responder(), partial(place.local.open, "wb"))
    await pulled
    assert place.local.read_bytes() == BODY
    assert place.pulled_back == [len(BODY)]
    await place.nothing_left()


async def test_pull_back_is_cancelled(place: Setup) -> None:
    """Cancelling it releases everything, and leaves neither the file nor a part of it."""
    stall = Stall(in_response(1_000_000))
    place.proxy.add(stall)
    consumer, pulled = _pull_back(await place.responder(), partial(place.local.open, "wb"))
    await stall.happened()
    pulled.cancel()
    with pytest.raises(ConsumerRequestedStopError):
        await pulled
    await consumer.wait()
    assert list(place.local.parent.iterdir()) == []
    assert place.pulled_back == []
    await place.nothing_left()


class _Media(Resource):
    """Answers a client as Synapse does.

    :ivar multipart: answer another homeserver.
    :ivar announced: the length by Synapse's database; ``None`` if that does not tell.
    :ivar begin: makes the responder.
    :ivar delivered: what the last responder returned.
    """

    isLeaf = True

    def __init__(self, place: Setup) -> None:
        super().__init__()
        self.multipart = False
        self.announced: int | None = len(BODY)
        self.begin = place.responder
        self.delivered: Deferred[None] = Deferred()
        self.errors: list[Exception] = []

    def render_GET(self, request: Any) -> int:
        from twisted.internet.defer import ensureDeferred

        ensureDeferred(self._respond(request))
        return NOT_DONE_YET

    async def _respond(self, request: Any) -> None:
        responder = await self.begin()
        write = responder.write_to_consumer

        def remember(consumer: Any) -> Deferred[None]:
            self.delivered = write(consumer)
            return self.delivered.addErrback(self._failed)

        responder.write_to_consumer = remember
        file = ("text/plain", self.announced, None)
        if self.multipart:
            await respond_with_multipart_responder(None, request, responder, *file)
        else:
            await respond_with_responder(request, responder, *file)

    def _failed(self, failure: Failure) -> Failure:
        self.errors.append(failure.value)
        return failure


@pytest.fixture
def media(place: Setup) -> Iterator[tuple[_Media, int]]:
    """The media of ``place``, and the port where clients get it."""
    import pytest_twisted
    from twisted.internet import reactor  # pytest-twisted chooses it
    from twisted.web.server import Site  # imports the reactor

    media = _Media(place)
    port = reactor.listenTCP(0, Site(media), interface="127.0.0.1")
    yield media, port.getHost().port
    pytest_twisted.blockon(port.stopListening())


def _client_gets(port: int) -> bytes:
    """What a client of HTTP/1.1 takes for the whole file.

    :raises Exception: if the client sees that it is not whole.
    """
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


def _damaged_answer(chunks: list[bytes] | None) -> Fault:
    if chunks is None:
        return FlipBit(in_response(1000))
    lines = ["HTTP/1.1 200 OK", "X-Trans-Id: tx1", f"ETag: {hashlib.md5(BODY).hexdigest()}"]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    # Without its end, so that the client has time to take it for whole before the error.
    return Answer(200, raw=head + body, then=Then.CLOSE)


@pytest.mark.parametrize(
    "chunks",
    [
        None,
        [b"x" + BODY[1:]],
        [BODY[:1000], b"x", BODY[1001:]],
        [BODY[:-1], b"x"],
    ],
    ids=["with a length", "in one chunk", "in the middle", "at the end"],
)
async def test_a_damaged_file_never_looks_whole(
    place: Setup,
    media: tuple[_Media, int],
    caplog: pytest.LogCaptureFixture,
    chunks: list[bytes] | None,
) -> None:
    """A client that knows the length never gets all of it; the log names the damage."""
    resource, port = media
    assert await deferToThread(_client_gets, port) == BODY
    place.proxy.add(_damaged_answer(chunks))
    with pytest.raises((HTTPException, ConnectionError)):
        await deferToThread(_client_gets, port)
    assert [getattr(error, "code", None) for error in resource.errors] == [503]
    assert "Cannot deliver media: GET" in caplog.text
    assert "bytes that came are not the object's" in caplog.text
    await place.nothing_left()


async def test_a_cancelled_response_never_looks_whole(
    place: Setup, media: tuple[_Media, int]
) -> None:
    """A client that is still there sees that the response is incomplete, without a length too."""
    resource, port = media
    resource.announced = None
    stall = Stall(in_response(1_000_000))
    place.proxy.add(stall)
    got = deferToThread(_client_gets, port)
    await stall.happened()
    resource.delivered.cancel()
    with pytest.raises((HTTPException, ConnectionError)):
        await got
    assert [type(error) for error in resource.errors] == [ConsumerRequestedStopError]
    await place.nothing_left()


async def test_a_mere_head_never_looks_whole(place: Setup, media: tuple[_Media, int]) -> None:
    """Another server gets 200 and no whole body, also if Synapse announces no length."""
    resource, port = media
    resource.multipart, resource.announced, resource.begin = True, None, place.later
    place.proxy.add(Answer(403, match=("GET", "/media$"), times=None))
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        await deferToThread(connection.request, "GET", "/")
        response = await deferToThread(connection.getresponse)
        assert response.status == 200
        with pytest.raises(IncompleteRead):
            await deferToThread(response.read)
    assert [getattr(error, "code", None) for error in resource.errors] == [500]
    await place.nothing_left()


async def test_fetch_is_cancelled(place: Setup) -> None:
    """Cancelling a request for a file releases everything."""
    stall = Stall(BEFORE_RESPONSE)
    place.proxy.add(stall)
    fetched = begin_for_caller(Place(place.client, place.container).get, "media")
    await stall.happened()
    fetched.cancel()
    with pytest.raises(CancelledError):
        await fetched
    await place.nothing_left()


async def test_a_file_that_has_the_name_survives(place: Setup) -> None:
    """A file under the final name is there again after a download, and if nothing is read."""
    place.local.write_bytes(b"whole")
    with await place.responder():
        assert not place.local.exists()
    assert place.local.read_bytes() == b"whole"
    received = io.BytesIO()
    responder = await place.responder()
    with responder:
        delivered = responder.write_to_consumer(FileConsumer(received))
        assert place.local.read_bytes() == b"whole"
        received.close = lambda: None
        await delivered
    assert received.getvalue() == BODY
    assert list(place.local.parent.iterdir()) == [place.local]


async def test_part_that_cannot_be_removed(
    place: Setup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If an incomplete file cannot be removed, the log names it; it has a temporary name."""
    place.proxy.add(Reset(in_response(1_000_000)), Answer(404, times=None))
    _, pulled = _pull_back(await place.responder(), partial(place.local.open, "wb"))
    monkeypatch.setattr(os, "unlink", _refuse)
    with pytest.raises(SynapseError):
        await pulled
    monkeypatch.undo()
    (left,) = place.local.parent.iterdir()
    assert left.name.startswith(f"media{MARK}")
    assert f"Cannot remove the incomplete file {left}: [Errno 1]" in caplog.text


def _refuse(path: str) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)


async def test_leftover_of_another_worker(place: Setup) -> None:
    """A temporary file that another process is writing stays; one that none is writing goes."""
    names = [f"media{MARK}{name}" for name in ("live", "dead")]
    live, dead = (place.local.with_name(name) for name in names)
    other = place.local.with_name(f"media2{MARK}dead")
    for path in (live, dead, other):
        path.touch()
    with live.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _, pulled = _pull_back(await place.responder(), partial(place.local.open, "wb"))
        await pulled
    assert place.local.read_bytes() == BODY
    assert sorted(place.local.parent.iterdir()) == sorted([live, other, place.local])


async def test_unused(place: Setup) -> None:
    """Leaving the responder releases everything, even if nothing was read."""
    with await place.responder():
        assert place.client.slots.in_flight == 1
    await place.nothing_left()


async def test_body_fails_for_good(place: Setup) -> None:
    """Synapse gets the error, its writer's thread ends, and the incomplete file is removed."""
    place.proxy.add(Reset(in_response(1_000_000)), Answer(404, times=None))
    consumer, pulled = _pull_back(await place.responder(), partial(place.local.open, "wb"))
    with pytest.raises(SynapseError):
        await pulled
    await consumer.wait()  # returns when the thread has ended
    assert not place.local.exists()
    await place.nothing_left()


async def test_disk_is_full_while_the_download_is_paused(place: Setup) -> None:
    """A writer that fails while the download is paused ends it; Synapse does not wait for ever."""
    from twisted.internet import reactor

    file = DiskFull()
    consumer, pulled = _pull_back(await place.responder(), partial(file.open, place.local))
    await deferToThread(file.asked.wait, 30)
    while not consumer._paused_producer:
        await _turn(reactor)
    file.go.set()
    with pytest.raises(OSError, match="No space left"):
        await pulled
    assert not place.local.exists()
    await place.nothing_left()


async def test_disk_is_full_after_the_last_byte(place: Setup, storage: Storage) -> None:
    """If only the write of the last bytes fails, the incomplete file is removed too."""
    storage.put(place.container, "media", b"small")
    file = DiskFull()
    file.go.set()
    _, pulled = _pull_back(await place.responder(), partial(file.open, place.local))
    with pytest.raises(OSError, match="No space left"):
        await pulled
    assert not place.local.exists()
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
async def test_head_writes_nothing(place: Setup, multipart: bool) -> None:
    """In answer to a HEAD request nothing is written or asked for, to users and servers alike."""
    place.local.write_bytes(b"another")
    request = _request(b"HEAD")
    consumer = (
        MultipartFileConsumer(None, request, "text/plain", {}, "inline", None)
        if multipart
        else request
    )
    responder = await place.later()
    with responder:
        await responder.write_to_consumer(consumer)
        assert place.local.read_bytes() == b"another"
    assert not request.startedWriting
    assert place.gets() == 0
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
async def test_only_a_client_gets_a_part(place: Setup, multipart: bool) -> None:
    """``Range`` of another server is ignored: its parts are those of multipart."""
    request = _request(b"GET")
    request.requestHeaders.setRawHeaders(b"Range", [b"bytes=1000000-1000009"])
    consumer = (
        MultipartFileConsumer(None, request, "text/plain", {}, "inline", None)
        if multipart
        else request
    )
    responder = await place.responder()
    with responder:
        await responder.write_to_consumer(consumer)
    sent = request.channel.transport.value()
    assert (request.code, BODY in sent) == ((200, True) if multipart else (206, False))
    assert multipart or sent.endswith(b"\r\n\r\n" + BODY[1_000_000:1_000_010])
    await place.nothing_left()


@pytest.mark.parametrize("body", [BODY, b"small"])
async def test_a_part_that_is_not_there(place: Setup, storage: Storage, body: bytes) -> None:
    """For 416 nothing is written, and the download is released."""
    storage.put(place.container, "media", body)
    request = _request(b"GET")
    request.requestHeaders.setRawHeaders(b"Range", [b"bytes=5000000-"])
    responder = await place.responder()
    with responder:
        await responder.write_to_consumer(request)
    assert (request.code, request.startedWriting) == (416, 0)
    assert place.gets() == 1
    await place.nothing_left()


async def test_pull_back_for_head(place: Setup) -> None:
    """The download begins when Synapse pulls the file back; until then its name is free."""
    stall = Stall(BEFORE_RESPONSE, match=("GET", ""))
    place.proxy.add(stall)
    _, pulled = _pull_back(await place.later(), partial(place.local.open, "wb"))
    await stall.happened()
    assert not place.local.exists()
    stall.release()
    await pulled
    assert place.local.read_bytes() == BODY
    await place.nothing_left()


async def test_pull_back_for_head_is_cancelled(place: Setup) -> None:
    """Cancelling it while Swift has not answered leaves nothing behind."""
    stall = Stall(BEFORE_RESPONSE, match=("GET", ""))
    place.proxy.add(stall)
    _, pulled = _pull_back(await place.later(), partial(place.local.open, "wb"))
    await stall.happened()
    pulled.cancel()
    with pytest.raises(ConsumerRequestedStopError):
        await pulled
    assert list(place.local.parent.iterdir()) == []
    await place.nothing_left()


async def test_pull_back_for_head_fails(place: Setup) -> None:
    """An object that was deleted after the HEAD is a 404, and leaves no file."""
    place.proxy.add(Answer(404, match=("GET", "/media$"), times=None))
    _, pulled = _pull_back(await place.later(), partial(place.local.open, "wb"))
    with pytest.raises(SynapseError) as raised:
        await pulled
    assert raised.value.code == 404
    assert list(place.local.parent.iterdir()) == []
    await place.nothing_left()


@pytest.mark.parametrize("body", [BODY, b"small"])
async def test_client_has_gone_before(place: Setup, storage: Storage, body: bytes) -> None:
    """If the client has disconnected, Synapse gets its own error for that."""
    storage.put(place.container, "media", body)
    request = _request(b"GET")
    request.channel = None  # as after connectionLost
    responder = await place.responder()
    with responder, pytest.raises(ConsumerRequestedStopError):
        await responder.write_to_consumer(request)
    await place.nothing_left()


def _request(method: bytes) -> Request:
    channel = HTTPChannel()
    channel.makeConnection(StringTransport())
    channel.setTimeout(None)
    request = Request(channel)
    request.method = method
    return request


async def _turn(reactor: Any) -> None:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0.01, turned.callback, None)
    await turned
