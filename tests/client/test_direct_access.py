"""Whether temporary URLs work, asked of the real Swift, and of a stand-in for Ceph RGW."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_twisted
import requests
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.web.http_headers import Headers

from swift_provider.client import DirectAccess, FileSource, Place, SwiftClient
from swift_provider.client.answers import object_info
from swift_provider.client.cluster_limits import ClusterLimits
from swift_provider.client.direct_access import MOST_SEGMENTS
from swift_provider.client.direct_check import Links, Verdict
from swift_provider.client.drained import drained
from swift_provider.client.request import Request
from swift_provider.client.slots import Lane
from swift_provider.config import MIB, RedirectSettings
from swift_provider.errors import (
    ConnectionFailedError,
    ServerBusyError,
    SwiftError,
    TimedOutError,
)
from tests.client.conftest import Faulty, RecordingProxy
from tests.servers import process
from tests.servers.faults import ON_REQUEST, Answer, Fault, Reset
from tests.servers.keystone import Keystone
from tests.servers.stand_in import RgwStandIn
from tests.servers.swift import Swift
from tests.servers.tls import Authority, make_ca

OWNER = "here.example"
KEY = f"key-{uuid4().hex}"
CONTENT = bytes(range(256)) * 8000  # 2 MB, two segments
SETTINGS = RedirectSettings(key_path="/etc/tempurl.key", above=1000)


async def access_of(
    client: SwiftClient, container: str, *keys: str, settings: RedirectSettings = SETTINGS
) -> DirectAccess:
    """Temporary URLs of a container; by ``base_url``, tests may lead to this machine."""
    store = Place(client, container, "p/", OWNER)
    here = "/".join((await store.storage_url()).split("/")[:3])
    settings = replace(settings, base_url=settings.base_url or here)
    return store.direct_access(settings, tuple(key.encode() for key in keys or (KEY,)))


async def post(client: SwiftClient, container: str | None, **headers: str) -> None:
    """Set metadata of a container, or of the account; ``_`` stands for ``-``."""
    some = {key.replace("_", "-").encode(): value.encode() for key, value in headers.items()}
    await client.requester.perform(Request("POST", container, headers=some), drained)


async def set_key(client: SwiftClient, container: str, key: str = KEY) -> None:
    await post(client, container, X_Container_Meta_Temp_URL_Key=key)


async def fetched(url: str, **headers: str) -> requests.Response:
    session = process.local_session()
    return await deferToThread(session.get, url, headers=headers, timeout=30)


def works(verdict: Verdict) -> Links:
    assert verdict.flaws == ()
    assert verdict.links is not None
    return verdict.links


def flaw(verdict: Verdict) -> str:
    """The only flaw."""
    assert verdict.links is None
    (found,) = verdict.flaws
    return found


async def test_key_that_swift_does_not_have(client: SwiftClient, container: str) -> None:
    """The condition is named, with the command that sets the key and without the key."""
    found = flaw(await (await access_of(client, container)).check())
    assert found.startswith("key: ")
    assert "HTTP 401" in found
    command = f'swift post -m "Temp-URL-Key:$(head -n 1 /etc/tempurl.key)" {container}'
    assert command in found
    assert KEY not in found


async def test_links_work(client: SwiftClient, container: str, store: Place) -> None:
    """With the key, links are signed by the strongest digest, and lead to the object."""
    await set_key(client, container)
    verdict = await (await access_of(client, container)).check()
    links = works(verdict)
    assert links.signer.digest == "sha512"
    assert KEY not in repr(verdict)
    (warning,) = verdict.warnings
    assert warning.startswith("CORS: ")
    assert f"swift post -m 'Access-Control-Allow-Origin:*' {container}" in warning
    assert not links.allows_cors
    answer = await fetched(links.url("absent", "a").url)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("origins", "warnings"),
    [
        ("*", []),
        ("null", ["CORS preflight"]),
        ("https://a.example null", ["CORS preflight"]),
        ("https://a.example", ["CORS"]),
    ],
)
async def test_cors(client: SwiftClient, container: str, origins: str, warnings: list[str]) -> None:
    """After a redirect Chromium says that the page's origin is null. Firefox asks by OPTIONS
    with the page's own origin first.
    """
    await set_key(client, container)
    await post(client, container, X_Container_Meta_Access_Control_Allow_Origin=origins)
    verdict = await (await access_of(client, container)).check()
    assert works(verdict).allows_cors is not warnings
    assert [warning.partition(":")[0] for warning in verdict.warnings] == warnings
    for warning in verdict.warnings:
        assert f"swift post -m 'Access-Control-Allow-Origin:*' {container}" in warning


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(405, headers={"Access-Control-Allow-Origin": "*"}), "HTTP 405"),
        (Answer(200), "no Access-Control-Allow-Origin"),
        (Answer(200, headers={"Access-Control-Allow-Origin": "null"}), "no Access-Control"),
        (Reset(ON_REQUEST, times=2), "connection"),
    ],
    ids=["405", "no header", "null", "reset"],
)
async def test_front_without_options(
    client: SwiftClient, container: str, front: RecordingProxy, answer: Fault, said: str
) -> None:
    """A front that adds CORS headers to the answers to GET only is not enough for Firefox."""
    await set_key(client, container)
    await post(client, container, X_Container_Meta_Access_Control_Allow_Origin="*")
    answer.match = ("OPTIONS", "temp_url_sig")
    front.add(answer)
    settings = RedirectSettings(key=KEY, base_url=f"http://127.0.0.1:{front.port}")
    verdict = await (await access_of(client, container, settings=settings)).check()
    assert not works(verdict).allows_cors
    (warning,) = verdict.warnings
    assert warning.startswith("CORS preflight: ")
    assert said in warning
    asked, *_ = (seen for seen in front.requests if seen.method == "OPTIONS")
    assert asked.headers["access-control-request-method"] == "GET"
    assert asked.headers["origin"] not in ("null", "")


async def test_second_key(client: SwiftClient, container: str) -> None:
    """If Swift takes only the second key, that one signs, with a warning."""
    await set_key(client, container, "the-old-one")
    verdict = await (await access_of(client, container, KEY, "the-old-one")).check()
    assert works(verdict)
    assert any("second signs" in warning for warning in verdict.warnings)
    await post(client, container, X_Container_Meta_Temp_URL_Key_2=KEY)
    verdict = await (await access_of(client, container, KEY, "the-old-one")).check()
    assert not any("second signs" in warning for warning in verdict.warnings)


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ({"storage_url": "http://swift.example.org/v1/a"}, "http://swift.example.org"),
        ({"base_url": "http://media.example.org"}, "http://media.example.org"),
    ],
)
async def test_http(
    make_client: Callable[..., SwiftClient], place: dict[str, str], named: str
) -> None:
    """Clients are not sent to http; the place is named."""
    base_url = place.pop("base_url", None)
    settings = RedirectSettings(key=KEY, base_url=base_url)
    access = await access_of(make_client(**place), "c", settings=settings)
    found = flaw(await access.check())
    assert found.startswith("https: ")
    assert named in found


INFO = ("GET", "/info$")


@pytest.mark.parametrize(
    ("info", "named"),
    [({}, "no temporary URLs"), ({"tempurl": {"allowed_digests": ["md4"]}}, "the digests md4")],
)
async def test_swift_without_temporary_urls(
    faulty: Faulty, container: str, info: dict[str, object], named: str
) -> None:
    """A Swift without tempurl, or with digests that are unknown here, is named as such.

    The next check asks again.
    """
    faulty.proxy.add(Answer(200, json.dumps({"swift": {}, **info}).encode(), match=INFO))
    access = await access_of(faulty.client(), container)
    found = flaw(await access.check())
    assert found.startswith("tempurl: ")
    assert named in found
    assert flaw(await access.check()).startswith("key: ")


@pytest.mark.parametrize(
    ("info", "digest"),
    [
        (json.dumps({"swift": {}, "tempurl": {}}).encode(), "sha1"),
        (json.dumps({"swift": {}, "tempurl": {"allowed_digests": ["sha1"]}}).encode(), "sha1"),
        (b"hidden", "sha512"),
    ],
)
async def test_digest(
    client: SwiftClient, faulty: Faulty, container: str, info: bytes, digest: str
) -> None:
    """The digest follows /info: SHA-1 if it lists none; all are tried if it is hidden."""
    await set_key(client, container)
    faulty.proxy.add(Answer(200, info, match=INFO))
    links = works(await (await access_of(faulty.client(), container)).check())
    assert links.signer.digest == digest


async def test_swift_never_has_temporary_urls(faulty: Faulty, container: str) -> None:
    """Each further check names the same flaw, also one that gets no answer about the cluster."""
    faulty.proxy.add(
        Answer(200, json.dumps({"swift": {}}).encode(), match=INFO, times=2),
        Answer(503, match=INFO),
    )
    access = await access_of(faulty.client(), container)
    said = [flaw(await access.check()).partition(":")[0] for _ in range(3)]
    assert said == ["tempurl"] * 3


async def test_limits_survive_a_flaw(faulty: Faulty, container: str) -> None:
    """A check that names a flaw does not make uploads forget the cluster's limits."""
    client = faulty.client()
    before = await client.cluster.limits()
    assert before != ClusterLimits()
    flaw(await (await access_of(client, container)).check())
    faulty.proxy.add(Answer(503, match=INFO))
    assert await client.cluster.limits() == before


@pytest.mark.parametrize("status", [429, 498, 503])
async def test_busy(faulty: Faulty, container: str, status: int) -> None:
    """A busy Swift says nothing about the key: the error is temporary."""
    access = await access_of(faulty.client(), container)
    faulty.proxy.add(Answer(status, match=("GET", "temporary-url")))
    with pytest.raises(ServerBusyError) as caught:
        await access.check()
    assert "temp_url_sig" not in str(caught.value)


@pytest.mark.parametrize("wrong", [-4000.0, 400.0, 0.0])
async def test_clock(
    client: SwiftClient, container: str, make_file: Callable[[bytes], FileSource], wrong: float
) -> None:
    """URLs are made by Swift's clock; if this machine's is wrong, a warning says how much."""
    await set_key(client, container)
    await post(client, container, X_Container_Meta_Access_Control_Allow_Origin="*")
    await Place(client, container, "p/").put("o", make_file(b"content"))
    here = "/".join((await client.requester.storage_url()).split("/")[:3])
    settings = RedirectSettings(key=KEY, window=300, base_url=here)
    access = DirectAccess(
        *(client, container, "p/", OWNER, settings, (KEY.encode(),)),
        now=lambda: time.time() + wrong,
    )
    verdict = await access.check()
    links = works(verdict)
    assert abs(links.now() - time.time()) < 60
    url = links.url("p/o", "a")
    assert 240 < url.expires - time.time() < 660
    assert (await fetched(url.url)).content == b"content"
    if not wrong:
        assert not verdict.warnings
        return
    (warning,) = verdict.warnings
    seconds = re.match(r"clock: this machine's clock is (\d+) seconds (behind|ahead of)", warning)
    assert seconds
    assert abs(int(seconds[1]) - abs(wrong)) < 30
    assert (seconds[2] == "behind") is (wrong < 0)


async def test_no_slot(make_client: Callable[..., SwiftClient], container: str) -> None:
    """A check does not wait for a slot without end."""
    client = make_client(threadpool_size=1, connect_timeout=1, response_timeout=1)
    access = await access_of(client, container)
    await client.cluster.limits()
    lease = await client.slots.acquire(Lane.READ)
    try:
        with pytest.raises(TimedOutError):
            await access.check()
    finally:
        lease.release()


# Where clients are sent


async def test_loopback(client: SwiftClient, container: str) -> None:
    """Clients are not sent to this machine, unless ``base_url`` says so."""
    await set_key(client, container)
    store = Place(client, container, "p/", OWNER)
    here = "/".join((await store.storage_url()).split("/")[:3])
    found = flaw(await store.direct_access(SETTINGS, (KEY.encode(),)).check())
    assert found.startswith("loopback: ")
    assert here in found
    settings = replace(SETTINGS, base_url=here)
    assert works(await store.direct_access(settings, (KEY.encode(),)).check()).base_url is None


async def test_internal_interface(
    make_client: Callable[..., SwiftClient], keystone: Keystone, swift: Swift, container: str
) -> None:
    """An internal endpoint is not for clients, unless ``base_url`` says so."""
    region = f"inside-{uuid4().hex[:8]}"
    endpoint = "https://inside.example.org:8080/v1/AUTH_%(project_id)s"
    keystone.create_endpoint("object-store", endpoint, region, "internal")
    client = make_client(region_name=region, interface="internal")
    store = Place(client, container, "p/", OWNER)
    found = flaw(await store.direct_access(SETTINGS, (KEY.encode(),)).check())
    assert found.startswith("interface: ")
    assert "https://inside.example.org:8080" in found


@pytest.mark.parametrize("url", ["https://[::1/v1/a", "https://h:99999/v1/a"])
async def test_storage_url_that_nobody_can_read(client: SwiftClient, url: str) -> None:
    """A catalogue's odd URL is an ordinary flaw or error, whatever it is."""

    async def storage_url() -> str:
        return url

    access = Place(client, "c").direct_access(SETTINGS, (KEY.encode(),))
    client.requester.storage_url = storage_url  # type: ignore[method-assign]
    assert flaw(await access.check()).startswith("storage URL: ")


async def test_swift_that_wants_a_client_certificate(
    make_faulty: Callable[..., Awaitable[Faulty]],
    client: SwiftClient,
    container: str,
    front: RecordingProxy,
    authority: Authority,
) -> None:
    """Browsers have no client certificate. Through a front they need none."""
    await set_key(client, container)
    faulty = await make_faulty(authority.server_context(require_client=True))
    mine = faulty.client(
        cacert=str(authority.ca), cert=str(authority.client_cert), key=str(authority.client_key)
    )
    found = flaw(await (await access_of(mine, container)).check())
    assert found.startswith("client certificate: ")
    assert "redirect.base_url" in found
    settings = replace(SETTINGS, base_url=f"http://127.0.0.1:{front.port}")
    works(await (await access_of(mine, container, settings=settings)).check())


async def test_outage_with_a_client_certificate(
    make_faulty: Callable[..., Awaitable[Faulty]],
    client: SwiftClient,
    container: str,
    authority: Authority,
) -> None:
    """If requests with the certificate fail as well, the flaw is not the certificate."""
    await set_key(client, container)
    faulty = await make_faulty(authority.server_context())
    mine = faulty.client(
        cacert=str(authority.ca), cert=str(authority.client_cert), key=str(authority.client_key)
    )
    access = await access_of(mine, container)
    asked = ("GET", "temporary-url")
    # The third is for the connection that was idle: after a reset of that comes a new one.
    faulty.proxy.add(Reset(ON_REQUEST, match=asked, times=3))
    with pytest.raises(ConnectionFailedError):
        await access.check()
    faulty.proxy.add(Answer(400, match=asked))
    assert flaw(await access.check()).startswith("client certificate: ")
    faulty.proxy.add(Answer(400, match=asked, times=None))
    assert flaw(await access.check()).startswith("key: HTTP 400 ")


async def test_swift_and_front_of_different_authorities(
    make_faulty: Callable[..., Awaitable[Faulty]],
    make_fault_proxy: Callable[..., Awaitable[RecordingProxy]],
    client: SwiftClient,
    container: str,
    swift: Swift,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Swift's certificate is of ``cacert``, that of the front of a usual authority."""
    usual = make_ca(tmp_path / "usual")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(usual.ca))
    await set_key(client, container)
    faulty = await make_faulty(authority.server_context())
    mine = faulty.client(cacert=str(authority.ca))
    port = urlsplit(swift.url).port
    for tls in (usual.server_context(), authority.server_context()):
        front = await make_fault_proxy(port, tls)
        settings = replace(SETTINGS, base_url=f"https://localhost:{front.port}")
        works(await (await access_of(mine, container, settings=settings)).check())
    other = await make_fault_proxy(port, make_ca(tmp_path / "other").server_context())
    settings = replace(SETTINGS, base_url=f"https://localhost:{other.port}")
    found = flaw(await (await access_of(mine, container, settings=settings)).check())
    assert "its certificate is not trusted" in found


async def test_swift_is_unreachable(faulty: Faulty, container: str) -> None:
    """If Swift cannot be asked, that is an error, and the error has no URL."""
    faulty.proxy.add(Reset(ON_REQUEST, match=("GET", "temporary-url")))
    with pytest.raises(ConnectionFailedError) as caught:
        await (await access_of(faulty.client(), container)).check()
    assert "temp_url_sig" not in str(caught.value)


async def test_signatures_that_nobody_looks_at(faulty: Faulty, container: str) -> None:
    """A 404 proves nothing if a wrong signature gets it too."""
    faulty.proxy.add(Answer(404, match=("GET", "temporary-url"), times=2))
    found = flaw(await (await access_of(faulty.client(), container)).check())
    assert found.startswith("tempurl: HTTP 404 to a temporary URL with a wrong signature")


@pytest_twisted.async_yield_fixture
async def front(
    make_fault_proxy: Callable[..., Awaitable[RecordingProxy]], faulty: Faulty
) -> AsyncIterator[RecordingProxy]:
    """A second way to Swift, as a CDN would be."""
    host_and_port = faulty.storage_url.split("/")[2]
    yield await make_fault_proxy(int(host_and_port.rpartition(":")[2]), None)


async def test_front(client: SwiftClient, container: str, front: RecordingProxy) -> None:
    """With base_url the links lead through the front, and the token does not."""
    await set_key(client, container)
    await post(client, container, X_Container_Meta_Access_Control_Allow_Origin="*")
    base_url = f"http://127.0.0.1:{front.port}"
    settings = RedirectSettings(key=KEY, base_url=base_url)
    links = works(await (await access_of(client, container, settings=settings)).check())
    assert links.url("o", "a").url.startswith(f"{base_url}/v1/AUTH_")
    right, wrong, preflight = front.requests
    assert preflight.method == "OPTIONS"
    # The same name: a cache that ignores the query string would answer alike.
    assert right.path.partition("?")[0] == wrong.path.partition("?")[0]
    assert right.path != wrong.path
    assert not any("x-auth-token" in seen.headers for seen in front.requests)


@pytest.mark.parametrize(
    ("answers", "named"),
    [([404, 404], "404 to a right signature and 404"), ([403], "403 to a right")],
)
async def test_front_that_is_none(
    client: SwiftClient,
    container: str,
    front: RecordingProxy,
    answers: list[int],
    named: str,
) -> None:
    """A server that answers alike to right and wrong signatures, or refuses, is no front."""
    await set_key(client, container)
    front.add(*(Answer(status, foreign=True) for status in answers))
    settings = RedirectSettings(key=KEY, base_url=f"http://127.0.0.1:{front.port}")
    found = flaw(await (await access_of(client, container, settings=settings)).check())
    assert found.startswith("base_url: ")
    assert named in found


async def test_front_that_is_unreachable(client: SwiftClient, container: str) -> None:
    """A front that refuses connections is named."""
    await set_key(client, container)
    settings = RedirectSettings(key=KEY, base_url=f"http://127.0.0.1:{process.free_port()}")
    found = flaw(await (await access_of(client, container, settings=settings)).check())
    assert found.startswith("base_url: ")
    assert "temp_url_sig" not in found


# Objects


@pytest.fixture
def account_key(client: SwiftClient) -> Iterator[str]:
    """A key of the account, while a test runs."""
    key = f"account-key-{uuid4().hex}"
    name = "X_Account_Meta_Temp_URL_Key"
    pytest_twisted.blockon(ensureDeferred(post(client, None, **{name: key})))
    yield key
    pytest_twisted.blockon(ensureDeferred(post(client, None, **{name: ""})))


@pytest.mark.parametrize(
    ("size", "owner", "allowed"),
    [
        (1001, OWNER, True),
        (1000, OWNER, False),
        (1001, "other.example", False),
        (1001, None, False),
    ],
)
async def test_plain_objects(
    client: SwiftClient,
    container: str,
    make_file: Callable[[bytes], FileSource],
    size: int,
    owner: str | None,
    allowed: bool,
) -> None:
    """An object above the size that the owner has stored is allowed."""
    await set_key(client, container)
    access = await access_of(client, container)
    links = works(await access.check())
    store = Place(client, container, "p/", owner)
    await store.put("o", make_file(b"x" * size))
    info = await store.head("o")
    assert await access.allows(info, links) is allowed
    moved = replace(links, storage_url=f"{links.storage_url}-before")
    assert not await access.allows(info, moved), "the account has moved since the check"
    assert (await fetched(links.url(info.name, "a").url)).content == b"x" * size


async def test_links_are_streamed(
    client: SwiftClient, container: str, make_file: Callable[[bytes], FileSource]
) -> None:
    """A link to another object is not allowed: a container's key does not open its target."""
    await set_key(client, container)
    access = await access_of(client, container)
    links = works(await access.check())
    other = Place(client, f"{container}-old", "p/", OWNER)
    await other.create()
    await other.put("o", make_file(b"x" * 5000))
    link = {
        b"X-Symlink-Target": f"{container}-old/p/o".encode(),
        b"Content-Type": b"application/symlink",
    }
    await client.requester.perform(Request("PUT", container, "p/o", headers=link), drained)
    info = await Place(client, container, "p/", OWNER).head("o")
    assert (info.size, info.owner) == (5000, OWNER)
    assert not await access.allows(info, links)


async def test_segments_need_a_key_of_the_account(
    make_client: Callable[..., SwiftClient],
    container: str,
    make_file: Callable[[bytes], FileSource],
    account_key: str,
) -> None:
    """Swift delivers a large object with a key of the account, and refuses one of the container.

    What was found is believed for a while, and each segment is asked for.
    """
    client = make_client(segment_size="1M", segment_container=f"{container}_segments")
    store = Place(client, container, "p/", OWNER)
    await set_key(client, container)
    await store.put("o", make_file(CONTENT))
    info = await store.head("o")
    now = time.time()
    here = "/".join((await store.storage_url()).split("/")[:3])
    settings = replace(SETTINGS, base_url=here)
    access = DirectAccess(
        *(client, container, "p/", OWNER, settings, (account_key.encode(),)), now=lambda: now
    )
    container_access = await access_of(client, container)
    links = works(await access.check())
    container_links = works(await container_access.check())
    assert not await container_access.allows(info, container_links)
    assert (await fetched(container_links.url(info.name, "a").url)).status_code == 409
    assert await access.allows(info, links)
    assert (await fetched(links.url(info.name, "a").url)).content == CONTENT
    segments = [row.name async for page in store.segments.list() for row in page]
    await store.segments.delete(segments[-1])  # the first byte is still delivered
    assert await access.allows(info, links)
    now -= 10_000  # The clock is set back.
    assert not await access.allows(info, links)


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_busy_moment_is_not_remembered(
    faulty: Faulty,
    container: str,
    make_file: Callable[[bytes], FileSource],
    account_key: str,
    status: int,
) -> None:
    """What a busy Swift says about a large object's first byte is forgotten at once."""
    client = faulty.client(segment_size="1M", segment_container=f"{container}_segments")
    store = Place(client, container, "p/", OWNER)
    await store.put("o", make_file(CONTENT))
    info = await store.head("o")
    access = await access_of(client, container, account_key)
    links = works(await access.check())
    faulty.proxy.add(Answer(status, match=("GET", "p/o")))
    with pytest.raises(SwiftError):
        await access.allows(info, links)
    assert await access.allows(info, links)


async def test_too_many_segments(client: SwiftClient, faulty: Faulty, container: str) -> None:
    """A large object with very many segments is streamed, without a request for any of them."""
    await set_key(client, container)
    access = await access_of(faulty.client(), container)
    links = works(await access.check())
    headers = Headers(
        {
            "X-Static-Large-Object": ["True"],
            "X-Object-Meta-Matrix-Server": [OWNER],
            "X-Object-Meta-Segment-Size": [str(MIB)],
        }
    )
    faulty.proxy.requests.clear()
    for more, requests_sent in ((1, 0), (0, 1)):
        info = object_info("o", headers, MIB * (MOST_SEGMENTS + more))
        assert not await access.allows(info, links)
        assert len(faulty.proxy.requests) == requests_sent


# Ceph RGW


async def test_rgw(
    make_client: Callable[..., SwiftClient], make_file: Callable[[bytes], FileSource]
) -> None:
    """Ceph RGW takes SHA-1 and a key of the account, and refuses others with 403."""
    server = RgwStandIn(reactor)
    await server.start()
    try:
        user, key = server.credentials
        client = make_client(
            auth_type="v1password",
            auth={"auth_url": server.auth_url, "username": user, "password": key},
            region_name=None,
            storage_url=server.url,
        )
        store = Place(client, "box", "p/", OWNER)
        await store.create()
        await store.put("o", make_file(CONTENT))
        access = await access_of(client, "box")
        found = flaw(await access.check())
        assert "HTTP 403" in found
        server.temp_url_keys = [KEY]
        verdict = await access.check()
        links = works(verdict)
        assert links.signer.digest == "sha1"
        assert not links.allows_cors
        info = await store.head("o")
        assert await access.allows(info, links)
        assert (await fetched(links.url(info.name, "a b").url)).content == CONTENT
    finally:
        await server.stop()
