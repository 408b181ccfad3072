"""The responder that redirects, in our own process, and the checks that come before it."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from synapse.media._base import ConsumerRequestedStopError, FileInfo, ThumbnailInfo
from synapse.media.media_storage import BackgroundFileConsumer, MultipartFileConsumer
from synapse.module_api.errors import SynapseError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.http_headers import Headers

from swift_provider.client import Links, ObjectInfo, Place
from swift_provider.client.answers import object_info
from swift_provider.client.direct_check import Verdict
from swift_provider.client.temp_url import Signer, TempUrl
from swift_provider.errors import (
    AuthUnavailableError,
    ServerBusyError,
    Target,
    UntrustedServerError,
)
from swift_provider.module import redirecting as redirecting_module
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.redirect_responder import RedirectResponder, redirect
from swift_provider.module.redirecting import (
    FIRST_SECONDS,
    GOOD_SECONDS,
    MOST_SECONDS,
    PROVEN_SECONDS,
    Redirecting,
    redirectable_endpoint,
)
from tests.module.storage import Storage
from tests.module.test_client_request import context_of
from tests.module.test_responder import BODY, Setup, no_length, place  # noqa: F401
from tests.servers.faults import BEFORE_RESPONSE, Answer, Stall

URL = "https://swift.example.org/v1/AUTH_a"


def links(allows_cors: bool = True) -> Links:
    return Links(Signer(b"key", "sha1", 3600), URL, "c", None, allows_cors)


async def responder_of(place: Setup, some: Links) -> RedirectResponder:  # noqa: F811
    from twisted.internet import reactor

    store = Place(place.client, place.container)
    download = LaterDownload(await store.head("media"), partial(store.get, "media"))
    rest = (download, "media", str(place.local), reactor, deferToThread, print, no_length)
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
        raw = [value.encode("latin-1")]
        request.requestHeaders.setRawHeaders(name.replace("_", "-").encode(), raw)
    request.setHeader(b"Content-Type", b"text/html; charset=UTF-8")
    request.setHeader(b"Content-Disposition", b"attachment; filename=a.html")
    request.setHeader(b"Content-Length", b"%d" % len(BODY))
    request.setHeader(b"ETag", b"1")
    return request, wire


def gets(place: Setup) -> int:  # noqa: F811
    return sum(seen.method == "GET" for seen in place.proxy.requests)


async def test_redirect_asks_for_nothing(place: Setup) -> None:  # noqa: F811
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
        ({"Sec_Fetch_Mode": "same-origin"}, False),
        ({"Sec_Fetch_Mode": "cors"}, False),
        ({"Origin": "https://app.example"}, False),
        ({"Origin": "\xff"}, False),
        ({"Sec_Fetch_Mode": "\xff"}, True),
        ({"Authorization": 'X-Matrix origin="other.example",key="",sig=""'}, False),
    ],
)
async def test_without_cors(place: Setup, headers: dict[str, str], redirected: bool) -> None:  # noqa: F811
    """If pages may not read Swift's answers, their requests by JavaScript are streamed.

    So are those that may not leave the origin, and other homeservers', whatever Swift allows.
    """
    request, wire = request_with(**headers)
    allows_cors = headers.get("Sec_Fetch_Mode") == "same-origin" or "Authorization" in headers
    responder = await responder_of(place, links(allows_cors))
    with responder:
        await responder.write_to_consumer(request)
    assert (request.code == 307) is redirected
    assert wire.value().endswith(BODY) is not redirected
    await place.nothing_left()


@pytest.mark.parametrize(
    ("length", "redirected"), [(len(BODY), True), (None, True), (len(BODY) + 1, False)]
)
async def test_length(place: Setup, length: int | None, redirected: bool) -> None:  # noqa: F811
    """The client is not sent to an object of another length than the announced one."""
    request, _ = request_with()
    request.responseHeaders.removeHeader("Content-Length")
    if length is not None:
        request.setHeader("Content-Length", b"%d" % length)
    responder = await responder_of(place, links())
    with responder, contextlib.suppress(SynapseError, ConsumerRequestedStopError):
        await responder.write_to_consumer(request)
    assert (request.code == 307) is redirected


@pytest.mark.parametrize(
    ("lives", "skew", "remembered"),
    [(7 * 86400, 0.0, 3600), (1000, 0.0, 940), (1000, -500.0, 1440), (30, 0.0, 0)],
)
def test_how_long_it_is_remembered(lives: int, skew: float, remembered: int) -> None:
    """An hour at most, and by Swift's clock not until the URL expires."""
    request, _ = request_with()
    now = 1_800_000_000.0
    some = replace(links(), clock=lambda: now, skew=skew)
    redirect(request, TempUrl("https://swift.example.org/o", int(now) + lives), some.now())
    (said,) = request.responseHeaders.getRawHeaders("Cache-Control")
    assert said == f"private,max-age={remembered}"


async def test_svg_is_streamed(place: Setup) -> None:  # noqa: F811
    """A browser shows SVG only with its type, which Swift does not have."""
    request, wire = request_with()
    request.setHeader(b"Content-Type", b"image/svg+xml; charset=UTF-8")
    responder = await responder_of(place, links())
    with responder:
        await responder.write_to_consumer(request)
    assert request.code == 200
    assert wire.value().endswith(BODY)
    await place.nothing_left()


async def test_other_consumers_are_streamed_to(place: Setup) -> None:  # noqa: F811
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
async def test_object_that_has_vanished(place: Setup, status: int, code: str) -> None:  # noqa: F811
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


@pytest.mark.parametrize("multipart", [False, True])
@pytest.mark.parametrize("body", [BODY, b"small"], ids=["large", "small"])
async def test_client_hangs_up_before_the_download_begins(
    place: Setup,  # noqa: F811
    storage: Storage,
    body: bytes,
    multipart: bool,
) -> None:
    """Synapse gets its own error for that, and has no producer to unregister."""
    storage.put(place.container, "media", body)
    request, wire = request_with(Sec_Fetch_Mode="cors")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    consumer: Any = request
    if multipart:
        consumer = MultipartFileConsumer(None, request, "text/plain", {}, "inline", None)
    responder = await responder_of(place, links(allows_cors=False))
    place.proxy.add(stall := Stall(BEFORE_RESPONSE, match=("GET", "")))
    with responder:
        written = responder.write_to_consumer(consumer)
        await stall.happened()
        request.connectionLost(Failure(ConnectionLost()))
        stall.release()
        with pytest.raises(ConsumerRequestedStopError):
            await written
    assert request.producer is None
    assert wire.value() == b""
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
        # As Synapse asks another homeserver (its ``download_media_v3``).
        (
            "/_matrix/media/v3/download/a/b?allow_remote=false&timeout_ms=20000&allow_redirect=true",
            None,
        ),
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
    """A file that was seen to be small costs no further HEAD. The one that was asked for least
    recently is forgotten first.
    """
    monkeypatch.setattr("swift_provider.module.redirecting.SMALL_FILES", 2)
    file = FileInfo(server_name=None, file_id="b")
    for path, size in (("one", 10), ("two", 10), ("three", 1000), ("large", 1001)):
        info = object_info(path, Headers(), size)
        assert await ready.allows(path, info, ready.links) is (size > 1000)
    with context_of("GET", "/_matrix/client/v1/media/download/a/b"):
        known = {path: ready.links_for(path, file) is None for path in ("one", "two", "three")}
        assert known == {"one": False, "two": True, "three": True}
        assert ready.links_for("large", file) is not None
        assert ready.links_for("two", file) is None
        assert await ready.allows("four", object_info("four", Headers(), 10), ready.links) is False
        assert ready.links_for("three", file) is not None, "'two' was asked for before it"


@pytest.mark.parametrize("seconds", [-36_000.0, 36_000.0])
def test_the_clock_is_set(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check has learned of Swift's time is wrong now: files are streamed until the next
    one, which begins at once.
    """
    clock = Clock()
    some = redirecting(clock, Verdict(links()), Verdict(links()))
    Deferred.fromCoroutine(some.check())
    offset = time.time() - time.monotonic()
    monkeypatch.setattr(redirecting_module, "_clock_offset", lambda: offset + seconds)
    file = FileInfo(server_name=None, file_id="b")
    with context_of("GET", "/_matrix/client/v1/media/download/a/b"):
        assert some.links_for("path", file) is None
        assert some.links_for("path", file) is None
    clock.advance(0)
    with context_of("GET", "/_matrix/client/v1/media/download/a/b"):
        assert some.links_for("path", file) is not None
    assert len(clock.getDelayedCalls()) == 1


def test_the_clock_is_set_before_a_check_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that only an earlier check has seen to work are not used any more."""
    clock = Clock()
    busy = Target("GET", "c", "o").error(ServerBusyError, "busy")
    some = redirecting(clock, Verdict(links()), busy)
    Deferred.fromCoroutine(some.check())
    offset = time.time() - time.monotonic()
    monkeypatch.setattr(redirecting_module, "_clock_offset", lambda: offset + 60)
    clock.advance(GOOD_SECONDS)
    assert some.links is None


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


def test_busy_swift_keeps_the_verdict(caplog: pytest.LogCaptureFixture) -> None:
    """If Swift cannot tell now, clients are still redirected for a while, and it is asked soon."""
    clock = Clock()
    busy = Target("GET", "c", "o").error(ServerBusyError, "busy")
    some = redirecting(clock, Verdict(links()), *[busy] * 20, Verdict(links()))
    Deferred.fromCoroutine(some.check())
    clock.advance(GOOD_SECONDS)
    for _ in range(int(PROVEN_SECONDS - GOOD_SECONDS) // int(FIRST_SECONDS)):
        assert some.links is not None
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        clock.advance(FIRST_SECONDS)
    clock.advance(FIRST_SECONDS)
    assert some.links is None
    assert "Swift cannot tell: GET c/o: busy" in caplog.messages[-1]
    waits = []
    while some.links is None:
        (call,) = clock.getDelayedCalls()
        waits.append(call.getTime() - clock.seconds())
        clock.advance(waits[-1])
    assert max(waits) == GOOD_SECONDS


def test_refused_for_good_ends_the_redirects() -> None:
    """An error that is not temporary is a verdict."""
    clock = Clock()
    refused = Target("GET", "c", "o").error(UntrustedServerError, "its certificate is old")
    some = redirecting(clock, Verdict(links()), refused)
    Deferred.fromCoroutine(some.check())
    clock.advance(GOOD_SECONDS)
    assert some.links is None


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
