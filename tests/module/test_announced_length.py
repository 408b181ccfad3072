"""Objects that are not as long as Synapse announces them, in our own process."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

import pytest
from synapse.media.media_storage import MultipartFileConsumer
from synapse.module_api.errors import SynapseError
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.web.http import Request

from swift_provider.client import Download, Place
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.responder import SwiftResponder
from tests.module.storage import Storage
from tests.module.test_redirect_responder import links, request_with, responder_of
from tests.module.test_responder import BODY, Setup, no_length, place  # noqa: F401
from tests.servers.faults import Answer

MEDIA = "local_content/ab/cd/ef"
THUMBNAIL = "local_thumbnails/ab/cd/ef/96-96-image-png-scale"
SMALL = bytes(range(250)) * 4


def respond(place: Setup, download: Download | LaterDownload, path: str) -> SwiftResponder:  # noqa: F811
    from twisted.internet import reactor

    return SwiftResponder(download, path, None, reactor, deferToThread, print, no_length)


def announce(length: int, multipart: bool = False) -> tuple[Any, Request, StringTransport]:
    """A consumer, as Synapse prepares it for a file of this length, and what is sent."""
    request, wire = request_with()
    consumer: Any = request
    if multipart:
        consumer = MultipartFileConsumer(None, request, "text/plain", {}, "inline", length)
        length = consumer.content_length()
    request.setHeader(b"Content-Length", b"%d" % length)
    return consumer, request, wire


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> Answer:
    """The answer of a proxy that does not tell the length.

    :param end: what ends it; empty if the client does not read so far.
    """
    lines = ["HTTP/1.1 200 OK", "X-Trans-Id: tx1", f"ETag: {hashlib.md5(body).hexdigest()}"]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
    half = len(body) // 2
    parts = [part for part in (body[:half], body[half:]) if part]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return Answer(200, raw=head + chunks + end, match=("GET", "/media$"))


@pytest.mark.parametrize("multipart", [False, True])
@pytest.mark.parametrize("difference", [-500, -1, 1, 500])
@pytest.mark.parametrize("body", [SMALL, BODY], ids=["small", "large"])
async def test_nothing_of_another_length_is_sent(
    place: Setup,  # noqa: F811
    storage: Storage,
    caplog: pytest.LogCaptureFixture,
    body: bytes,
    difference: int,
    multipart: bool,
) -> None:
    """A user gets an error, another server the mere head; one line says what to check."""
    storage.put(place.container, "media", body)
    announced = len(body) + difference
    consumer, _, wire = announce(announced, multipart)
    responder = respond(place, await Place(place.client, place.container).get("media"), MEDIA)
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(consumer)
    head, sent = wire.value().split(b"\r\n\r\n", 1)
    if multipart:
        assert head.startswith(b"HTTP/1.1 200 ")
        assert sent == b""
        assert wire.disconnecting
    else:
        assert head.startswith(b"HTTP/1.1 500 ")
        assert b"Content-Length: %d" % len(sent) in head
        assert json.loads(sent)["errcode"] == "M_UNKNOWN"
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    for part in (MEDIA, "GET media", f"{len(body)} bytes", f"says {announced}", "verify"):
        assert part in line
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
@pytest.mark.parametrize("body", [b"", SMALL, BODY], ids=["empty", "small", "large"])
async def test_announced_length_is_right(
    place: Setup,  # noqa: F811
    storage: Storage,
    body: bytes,
    multipart: bool,
) -> None:
    """The response has as many bytes as are announced, also within multipart."""
    storage.put(place.container, "media", body)
    consumer, _, wire = announce(len(body), multipart)
    responder = respond(place, await Place(place.client, place.container).get("media"), MEDIA)
    with responder:
        await responder.write_to_consumer(consumer)
    head, sent = wire.value().split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: %d" % len(sent) in head
    assert body in sent
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
async def test_empty_file_whose_length_swift_does_not_tell(
    place: Setup,  # noqa: F811
    multipart: bool,
) -> None:
    """The response of an empty file has all that is announced."""
    place.proxy.add(chunked(b""))
    consumer, _, wire = announce(0, multipart)
    responder = respond(place, await Place(place.client, place.container).get("media"), MEDIA)
    with responder:
        await responder.write_to_consumer(consumer)
    head, sent = wire.value().split(b"\r\n\r\n", 1)
    assert b"Content-Length: %d" % len(sent) in head
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
@pytest.mark.parametrize("difference", [-500, -1, 1, 500])
async def test_length_that_swift_does_not_tell(
    place: Setup,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    difference: int,
    multipart: bool,
) -> None:
    """Fewer bytes than announced are sent, and the connection is cut."""
    place.proxy.add(chunked(BODY) if difference > 0 else chunked(BODY, end=b""))
    consumer, request, wire = announce(len(BODY) + difference, multipart)
    responder = respond(place, await Place(place.client, place.container).get("media"), MEDIA)
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(consumer)
    _, sent = wire.value().split(b"\r\n\r\n", 1)
    announced = request.responseHeaders.getRawHeaders(b"Content-Length")
    assert announced is not None
    assert len(sent) < int(announced[0])
    assert wire.disconnected or wire.disconnecting
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert MEDIA in line
    assert f"{place.container}/media" in line
    assert str(len(BODY) + difference) in line
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
async def test_large_file_that_fails_before_its_first_byte(
    place: Setup,  # noqa: F811
    multipart: bool,
) -> None:
    """Another server gets the head, as for a small file: the connection is not aborted."""
    lines = [
        *("HTTP/1.1 200 OK", "X-Trans-Id: tx1", f"ETag: {hashlib.md5(SMALL).hexdigest()}"),
        *("X-Object-Meta-Content-Crc32: 0badcafe", "Transfer-Encoding: chunked", "", ""),
    ]
    raw = "\r\n".join(lines).encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMALL), SMALL)
    place.proxy.add(Answer(200, raw=raw, match=("GET", "/media$")))
    consumer, _, wire = announce(len(SMALL), multipart)
    responder = respond(place, await Place(place.client, place.container).get("media"), MEDIA)
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(consumer)
    head, sent = wire.value().split(b"\r\n\r\n", 1)
    assert not wire.disconnected, "that would discard the head"
    if multipart:
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Length: " in head
        assert b"Content-Type" not in sent
        assert wire.disconnecting
    else:
        assert head.startswith(b"HTTP/1.1 503 ")
        assert json.loads(sent)["errcode"] == "M_UNKNOWN"
    await place.nothing_left()


@pytest.mark.parametrize("value", ["bytes=0-9", "bytes=900-", "bytes=5000-"])
async def test_part_of_another_length(place: Setup, storage: Storage, value: str) -> None:  # noqa: F811
    """A part of a file that is not as long as announced is refused, too."""
    storage.put(place.container, "media", SMALL)
    consumer, request, wire = announce(len(SMALL) - 1)
    request.requestHeaders.setRawHeaders(b"Range", [value.encode()])
    responder = respond(place, await Place(place.client, place.container).get("media"), MEDIA)
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(consumer)
    assert wire.value().startswith(b"HTTP/1.1 500 ")
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
async def test_head_of_another_length(place: Setup, multipart: bool) -> None:  # noqa: F811
    """HEAD is answered as GET would be, without a body."""
    consumer, request, wire = announce(len(BODY) + 1, multipart)
    request.method = b"HEAD"
    store = Place(place.client, place.container)
    download = LaterDownload(await store.head("media"), partial(store.get, "media"))
    responder = respond(place, download, MEDIA)
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(consumer)
    head, sent = wire.value().split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 " if multipart else b"HTTP/1.1 500 ")
    assert (sent, wire.disconnecting) == (b"", multipart)
    assert place.gets() == 0


async def test_redirect_to_another_length(place: Setup) -> None:  # noqa: F811
    """A client is not sent to an object that Synapse does not mean."""
    _, request, wire = announce(len(BODY) + 1)
    responder = await responder_of(place, links())
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(request)
    assert wire.value().startswith(b"HTTP/1.1 500 ")
    await place.nothing_left()


async def test_object_replaced_after_its_head(place: Setup, storage: Storage) -> None:  # noqa: F811
    """What counts is the length of the object that is delivered."""
    store = Place(place.client, place.container)
    download = LaterDownload(await store.head("media"), partial(store.get, "media"))
    storage.put(place.container, "media", SMALL)
    consumer, _, wire = announce(len(BODY))
    responder = respond(place, download, MEDIA)
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(consumer)
    assert wire.value().startswith(b"HTTP/1.1 500 ")
    await place.nothing_left()


@pytest.mark.parametrize("multipart", [False, True])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("difference", [-500, 500])
async def test_thumbnail_of_another_length(
    place: Setup,  # noqa: F811
    storage: Storage,
    difference: int,
    method: bytes,
    multipart: bool,
) -> None:
    """A thumbnail, which may have been made anew, is sent with its own length."""
    storage.put(place.container, "media", SMALL)
    consumer, request, wire = announce(len(SMALL) + difference, multipart)
    request.method = method
    responder = respond(place, await Place(place.client, place.container).get("media"), THUMBNAIL)
    with responder:
        await responder.write_to_consumer(consumer)
    assert request.code == 200
    announced = request.responseHeaders.getRawHeaders(b"Content-Length")
    _, right, _ = announce(len(SMALL), multipart)
    assert announced == right.responseHeaders.getRawHeaders(b"Content-Length")
    if method == b"GET":
        _, sent = wire.value().split(b"\r\n\r\n", 1)
        assert announced == [b"%d" % len(sent)]
        assert SMALL in sent
    else:
        assert wire.value() == b""
    await place.nothing_left()
