"""The responder that redirects, in our own process, and the checks that come before it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from synapse.media._base import FileInfo, ThumbnailInfo
from synapse.media.media_storage import BackgroundFileConsumer, MultipartFileConsumer
from synapse.module_api.errors import SynapseError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.web.http import HTTPChannel, Request
from twisted.web.http_headers import Headers

from swift_provider.client import Links, ObjectInfo, Store
from swift_provider.client.answers import object_info
from swift_provider.client.direct_access import Verdict
from swift_provider.client.temp_url import Signer
from swift_provider.errors import AuthUnavailableError
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.redirect_responder import RedirectResponder
from swift_provider.module.redirecting import (
    FIRST_SECONDS,
    GOOD_SECONDS,
    MOST_SECONDS,
    Redirecting,
    redirectable_endpoint,
)
from tests.module.test_client_request import context_of
from tests.module.test_responder import BODY, Place, place  # noqa: F401
from tests.servers.faults import Answer

URL = "https://swift.example.org/v1/AUTH_a"


def links(allows_cors: bool = True) -> Links:
    return Links(Signer(b"key", "sha1", 3600), URL, "c", None, allows_cors)


async def responder_of(place: Place, some: Links) -> RedirectResponder:  # noqa: F811
    from twisted.internet import reactor

    store = Store(place.client, place.container)
    download = LaterDownload(await store.head("media"), partial(store.get, "media"))
    rest = (download, "media", str(place.local), reactor, deferToThread)
    return RedirectResponder(some, lambda: None, *rest)


def request_with(**headers: str) -> tuple[Request, StringTransport]:
    """A request as Synapse has prepared it for the file, and what is sent on its connection."""
    wire = StringTransport()
    channel = HTTPChannel()
    channel.makeConnection(wire)
    channel.setTimeout(None)
    request = Request(channel)
    request.method, request.clientproto = b"GET", b"HTTP/1.1"
    request.path = request.uri = b"/_matrix/client/v1/media/download/here/media"
    for name, value in headers.items():
        request.requestHeaders.setRawHeaders(name.replace("_", "-"), [value])
    request.setHeader(b"Content-Type", b"text/html; charset=UTF-8")
    request.setHeader(b"Content-Disposition", b"attachment; filename=a.html")
    request.setHeader(b"Content-Length", b"%d" % len(BODY))
    request.setHeader(b"ETag", b"1")
    return request, wire


def gets(place: Place) -> int:  # noqa: F811
    return sum(seen.method == "GET" for seen in place.proxy.requests)


async def test_redirect_asks_for_nothing(place: Place) -> None:  # noqa: F811
    """A redirected client costs Swift one HEAD, and the local name is left alone."""
    place.local.write_bytes(b"another")
    request, _ = request_with(Sec_Fetch_Mode="cors", Origin="https://app.example")
    responder = await responder_of(place, links())
    with responder:
        await responder.write_to_consumer(request)
    assert request.code == 307
    assert gets(place) == 0
    assert place.local.read_bytes() == b"another"
    await place.nothing_left()


@pytest.mark.parametrize(
    ("headers", "redirected"),
    [
        ({}, True),
        ({"Sec_Fetch_Mode": "no-cors"}, True),
        ({"Sec_Fetch_Mode": "cors"}, False),
        ({"Origin": "https://app.example"}, False),
    ],
)
async def test_without_cors(place: Place, headers: dict[str, str], redirected: bool) -> None:  # noqa: F811
    """If pages may not read Swift's answers, their requests by JavaScript are streamed."""
    request, wire = request_with(**headers)
    responder = await responder_of(place, links(allows_cors=False))
    with responder:
        await responder.write_to_consumer(request)
    assert (request.code == 307) is redirected
    assert wire.value().endswith(BODY) is not redirected
    await place.nothing_left()


async def test_svg_is_streamed(place: Place) -> None:  # noqa: F811
    """A browser shows SVG only with its type, which Swift does not have."""
    request, wire = request_with()
    request.setHeader(b"Content-Type", b"image/svg+xml; charset=UTF-8")
    responder = await responder_of(place, links())
    with responder:
        await responder.write_to_consumer(request)
    assert request.code == 200
    assert wire.value().endswith(BODY)
    await place.nothing_left()


async def test_other_consumers_are_streamed_to(place: Place) -> None:  # noqa: F811
    """Another homeserver, and Synapse's own disk, get the bytes."""
    from twisted.internet import reactor

    request, wire = request_with()
    responder = await responder_of(place, links())
    consumer = MultipartFileConsumer(reactor, request, "text/plain", {}, "inline", None)
    with responder:
        await responder.write_to_consumer(consumer)
    assert request.code == 200
    assert BODY in wire.value()
    responder = await responder_of(place, links())
    with responder:
        file = BackgroundFileConsumer(place.local.open("wb"), reactor)
        await responder.write_to_consumer(file)
    assert place.local.read_bytes() == BODY
    await place.nothing_left()


@pytest.mark.parametrize(("status", "code"), [(404, "M_NOT_FOUND"), (503, "M_UNKNOWN")])
async def test_object_that_has_vanished(place: Place, status: int, code: str) -> None:  # noqa: F811
    """A client that has to be streamed to gets an error if the object is gone since its HEAD."""
    place.proxy.add(
        Answer(status, headers={"Retry-After": "3600"}, match=("GET", "/media$"), times=None)
    )
    request, wire = request_with(Sec_Fetch_Mode="cors", Range="bytes=5-9")
    responder = await responder_of(place, links(allows_cors=False))
    with responder, pytest.raises(SynapseError):
        await responder.write_to_consumer(request)
    head, body = wire.value().split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"attachment" not in head
    assert b"range" not in head.lower()
    assert json.loads(body)["errcode"] == code
    await place.nothing_left()


# Which requests


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/_matrix/client/v1/media/download/a/b", "download"),
        ("/_matrix/client/v1/media/download/a/b/name?timeout_ms=1", "download"),
        ("/_matrix/client/v1/media/thumbnail/a/b?width=1&height=1", "thumbnail"),
        ("/_matrix/media/v3/download/a/b?allow_redirect=true", "download"),
        ("/_matrix/media/r0/thumbnail/a/b?allow_redirect=true&width=1", "thumbnail"),
        ("/_matrix/media/v3/download/a/b", None),
        ("/_matrix/media/v3/download/a/b?allow_redirect=false", None),
        ("/_matrix/media/v3/download/a/b?xallow_redirect=true", None),
        ("/_matrix/federation/v1/media/download/b?allow_redirect=true", None),
        ("/_matrix/client/v1/media/preview_url?url=x", None),
        ("/_matrix/client/v3/rooms/x?allow_redirect=true", None),
    ],
)
def test_redirectable_endpoint(url: str, expected: str | None) -> None:
    """Only clients' downloads and thumbnails may be redirected."""
    assert redirectable_endpoint(url) == expected


class Access:
    """In place of :class:`DirectAccess`: gives the verdicts that it is told."""

    def __init__(self, *verdicts: Verdict | Exception) -> None:
        self.verdicts = list(verdicts)

    async def allows(self, info: ObjectInfo, links: Links) -> bool:
        return True

    async def check(self) -> Verdict:
        verdict = self.verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


class Api:
    """In place of ``ModuleApi``."""

    def run_as_background_process(self, name: str, function: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(function())


class Container:
    """In place of a store."""

    container = "media"


def redirecting(clock: Clock, *verdicts: Verdict | Exception) -> Redirecting:
    return Redirecting(Container(), Access(*verdicts), 1000, clock, Api())  # type: ignore[arg-type]


@pytest.fixture
def ready() -> Redirecting:
    some = redirecting(Clock(), Verdict(links()))
    Deferred.fromCoroutine(some.check())
    return some


def thumbnail(length: int) -> ThumbnailInfo:
    return ThumbnailInfo(width=1, height=1, method="crop", type="image/png", length=length)


@pytest.mark.parametrize(
    ("kind", "info", "expected"),
    [
        ("download", None, True),
        ("download", thumbnail(5000), False),
        ("thumbnail", thumbnail(5000), True),
        ("thumbnail", thumbnail(1000), False),
        ("thumbnail", thumbnail(0), True),
        ("thumbnail", None, False),
    ],
)
def test_small_thumbnails_and_their_originals(
    ready: Redirecting, kind: str, info: ThumbnailInfo | None, expected: bool
) -> None:
    """A thumbnail that Synapse knows to be small costs no HEAD, and neither has an original."""
    with context_of("GET", f"/_matrix/client/v1/media/{kind}/a/b"):
        found = ready.links_for("path", FileInfo(server_name=None, file_id="b", thumbnail=info))
    assert (found is not None) is expected


def test_requests_that_are_none(ready: Redirecting) -> None:
    """Without a client's GET or HEAD nothing is redirected."""
    file = FileInfo(server_name=None, file_id="b")
    assert ready.links_for("path", file) is None
    with context_of("POST", "/_matrix/client/v1/media/download/a/b"):
        assert ready.links_for("path", file) is None


async def test_small_files_are_remembered(ready: Redirecting, monkeypatch: Any) -> None:
    """A file that was seen to be small costs no further HEAD; the oldest is forgotten first."""
    monkeypatch.setattr("swift_provider.module.redirecting.SMALL_FILES", 2)
    file = FileInfo(server_name=None, file_id="b")
    for path, size in (("one", 10), ("two", 10), ("three", 1000), ("large", 1001)):
        info = object_info(path, Headers(), size)
        assert await ready.allows(path, info, ready.links) is (size > 1000)
    with context_of("GET", "/_matrix/client/v1/media/download/a/b"):
        known = {path: ready.links_for(path, file) is None for path in ("one", "two", "three")}
        assert known == {"one": False, "two": True, "three": True}
        assert ready.links_for("large", file) is not None


# The checks


def test_checks_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """Until a check succeeds nothing is redirected; a later one may find a flaw again."""
    caplog.set_level("INFO")
    clock = Clock()
    good, bad = Verdict(links(), (), ("CORS: x",)), Verdict(None, ("key: refused. Set it",))
    unreachable = AuthUnavailableError("Keystone is down")
    some = redirecting(clock, unreachable, bad, bad, good, good, bad)
    Deferred.fromCoroutine(some.check())
    assert some.links is None
    with context_of("GET", "/_matrix/client/v1/media/download/a/b"):
        assert some.links_for("path", FileInfo(server_name=None, file_id="b")) is None
    assert "Swift cannot tell: Keystone is down" in caplog.messages[-1]
    clock.advance(FIRST_SECONDS)
    assert caplog.records[-1].levelname == "ERROR"
    assert "key: refused. Set it" in caplog.messages[-1]
    said = len(caplog.messages)
    clock.advance(2 * FIRST_SECONDS)
    assert len(caplog.messages) == said, "the same flaw is logged once"
    clock.advance(4 * FIRST_SECONDS)
    assert some.links is not None
    assert [record.levelname for record in caplog.records[said:]] == ["WARNING", "INFO"]
    clock.advance(GOOD_SECONDS)
    assert some.links is not None
    clock.advance(GOOD_SECONDS)
    assert some.links is None
    assert "key: refused" in caplog.messages[-1]
    (call,) = clock.getDelayedCalls()
    assert call.getTime() - clock.seconds() == FIRST_SECONDS


def test_check_that_breaks() -> None:
    """A mistake in a check does not end the checks."""
    clock = Clock()
    some = redirecting(clock, ZeroDivisionError(), Verdict(links()))
    Deferred.fromCoroutine(some.check()).addErrback(lambda failure: failure.trap(ZeroDivisionError))
    clock.advance(FIRST_SECONDS)
    assert some.links is not None


def test_longest_wait() -> None:
    """Checks that fail become rare, and never end."""
    clock = Clock()
    some = redirecting(clock, *[Verdict(None, ("x",))] * 20)
    Deferred.fromCoroutine(some.check())
    for _ in range(15):
        (call,) = clock.getDelayedCalls()
        clock.advance(call.getTime() - clock.seconds())
    (call,) = clock.getDelayedCalls()
    assert call.getTime() - clock.seconds() == MOST_SECONDS
