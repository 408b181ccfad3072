"""Whether temporary URLs work, asked of the real Swift, and of a stand-in for Ceph RGW."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import uuid4

import pytest
import pytest_twisted
import requests
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.web.http_headers import Headers

from swift_provider.client import DirectAccess, FileSource, Store, SwiftClient
from swift_provider.client.answers import object_info
from swift_provider.client.direct_access import MOST_SEGMENTS, Links, Verdict
from swift_provider.client.request import Request
from swift_provider.client.requester import drained
from swift_provider.config import MIB, RedirectSettings
from swift_provider.errors import ConnectionFailedError
from tests.client.conftest import Faulty, RecordingProxy
from tests.servers import process
from tests.servers.faults import ON_REQUEST, Answer, Reset
from tests.servers.stand_in import RgwStandIn

OWNER = "here.example"
KEY = f"key-{uuid4().hex}"
CONTENT = bytes(range(256)) * 8000  # 2 MB, two segments
SETTINGS = RedirectSettings(key_path="/etc/tempurl.key", above=1000)


def access_of(
    client: SwiftClient, container: str, *keys: str, settings: RedirectSettings = SETTINGS
) -> DirectAccess:
    store = Store(client, container, "p/", OWNER)
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
    found = flaw(await access_of(client, container).check())
    assert found.startswith("key: ")
    assert "HTTP 401" in found
    command = f'swift post -m "Temp-URL-Key:$(head -n 1 /etc/tempurl.key)" {container}'
    assert command in found
    assert KEY not in found


async def test_links_work(client: SwiftClient, container: str, store: Store) -> None:
    """With the key, links are signed by the strongest digest, and lead to the object."""
    await set_key(client, container)
    verdict = await access_of(client, container).check()
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
    ("origins", "allowed"),
    [("*", True), ("https://a.example null", True), ("https://a.example", False)],
)
async def test_cors(client: SwiftClient, container: str, origins: str, allowed: bool) -> None:
    """After a redirect a browser says that the page's origin is null: that one must be allowed."""
    await set_key(client, container)
    await post(client, container, X_Container_Meta_Access_Control_Allow_Origin=origins)
    verdict = await access_of(client, container).check()
    assert works(verdict).allows_cors is allowed
    assert bool(verdict.warnings) is not allowed


async def test_second_key(client: SwiftClient, container: str) -> None:
    """If Swift takes only the second key, that one signs, with a warning."""
    await set_key(client, container, "the-old-one")
    verdict = await access_of(client, container, KEY, "the-old-one").check()
    assert works(verdict)
    assert any("second signs" in warning for warning in verdict.warnings)
    await post(client, container, X_Container_Meta_Temp_URL_Key_2=KEY)
    verdict = await access_of(client, container, KEY, "the-old-one").check()
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
    access = access_of(make_client(**place), "c", settings=settings)
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
    access = access_of(faulty.client(), container)
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
    links = works(await access_of(faulty.client(), container).check())
    assert links.signer.digest == digest


async def test_swift_is_unreachable(faulty: Faulty, container: str) -> None:
    """If Swift cannot be asked, that is an error, and the error has no URL."""
    faulty.proxy.add(Reset(ON_REQUEST, match=("GET", "temporary-url"), times=2))
    with pytest.raises(ConnectionFailedError) as caught:
        await access_of(faulty.client(), container).check()
    assert "temp_url_sig" not in str(caught.value)


async def test_signatures_that_nobody_looks_at(faulty: Faulty, container: str) -> None:
    """A 404 proves nothing if a wrong signature gets it too."""
    faulty.proxy.add(Answer(404, match=("GET", "temporary-url"), times=2))
    found = flaw(await access_of(faulty.client(), container).check())
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
    base_url = f"http://127.0.0.1:{front.port}"
    settings = RedirectSettings(key=KEY, base_url=base_url)
    links = works(await access_of(client, container, settings=settings).check())
    assert links.url("o", "a").url.startswith(f"{base_url}/v1/AUTH_")
    assert len(front.requests) == 2
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
    found = flaw(await access_of(client, container, settings=settings).check())
    assert found.startswith("base_url: ")
    assert named in found


async def test_front_that_is_unreachable(client: SwiftClient, container: str) -> None:
    """A front that refuses connections is named."""
    await set_key(client, container)
    settings = RedirectSettings(key=KEY, base_url=f"http://127.0.0.1:{process.free_port()}")
    found = flaw(await access_of(client, container, settings=settings).check())
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
    access = access_of(client, container)
    links = works(await access.check())
    store = Store(client, container, "p/", owner)
    await store.put("o", make_file(b"x" * size))
    info = await store.head("o")
    assert await access.allows(info, links) is allowed
    assert (await fetched(links.url(info.name, "a").url)).content == b"x" * size


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
    store = Store(client, container, "p/", OWNER)
    await set_key(client, container)
    await store.put("o", make_file(CONTENT))
    info = await store.head("o")
    now = 1_800_000_000.0
    access = DirectAccess(
        *(client, container, "p/", OWNER, SETTINGS, (account_key.encode(),)), now=lambda: now
    )
    container_access = access_of(client, container)
    links = works(await access.check())
    container_links = works(await container_access.check())
    assert not await container_access.allows(info, container_links)
    assert (await fetched(container_links.url(info.name, "a").url)).status_code == 409
    assert await access.allows(info, links)
    assert (await fetched(links.url(info.name, "a").url)).content == CONTENT
    segments = [row.name async for page in store.segments.list() for row in page]
    await store.segments.delete(segments[-1])  # the first byte is still delivered
    assert await access.allows(info, links)
    now += 1000
    assert not await access.allows(info, links)


async def test_too_many_segments(client: SwiftClient, faulty: Faulty, container: str) -> None:
    """A large object with very many segments is streamed, without a request for any of them."""
    await set_key(client, container)
    access = access_of(faulty.client(), container)
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
        store = Store(client, "box", "p/", OWNER)
        await store.create()
        await store.put("o", make_file(CONTENT))
        access = access_of(client, "box")
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
