"""Reaching Swift through the proxies that the environment names."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import pytest_twisted
import requests
from requests.utils import select_proxy
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from zope.interface import directlyProvides, providedBy

from swift_provider.client import FileSource, Place, SwiftClient
from swift_provider.client.http.proxies import proxy_for
from swift_provider.errors import (
    ConfigError,
    ConnectionFailedError,
    SwiftProviderError,
    TimedOutError,
    UntrustedServerError,
)
from tests.client.conftest import Faulty, Sink
from tests.client.trouble import NO_PATIENCE, NO_TIME, until
from tests.servers.faults import Cut, in_response
from tests.servers.forward_proxy import ForwardProxy
from tests.servers.tls import Authority

LARGE = random.Random(1).randbytes(1_000_000)
PASSWORD = "pa/ss%w@rd"
QUOTED = "pa%2Fss%25w%40rd"

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxy but the test's own."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


#: Of Swift, as the clients know it: only the proxies have a way there.
HIDDEN_PORT = 1


class Hidden:
    """Hides a server: its address refuses connections, except those of the proxies.

    Stands in for the reactor of the proxies.
    """

    def __init__(self) -> None:
        self.port = HIDDEN_PORT
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def connectTCP(self, host: str, port: int, *arguments: Any, **options: Any) -> Any:
        return reactor.connectTCP(
            host, self.port if port == HIDDEN_PORT else port, *arguments, **options
        )

    def client(self, faulty: Faulty, **options: Any) -> SwiftClient:
        """A client that cannot reach Swift except through a proxy."""
        self.port = faulty.proxy.port
        return faulty.client(storage_url=url_of(faulty), **options)


@pytest.fixture
def hidden() -> Hidden:
    return Hidden()


def url_of(faulty: Faulty) -> str:
    """The storage URL, with the host name and the port by which the clients know it."""
    return urlsplit(faulty.storage_url)._replace(netloc=f"localhost:{HIDDEN_PORT}").geturl()


@pytest_twisted.async_yield_fixture
async def make_proxy(hidden: Hidden) -> AsyncIterator[Callable[..., Awaitable[ForwardProxy]]]:
    """Starts proxies."""
    proxies: list[ForwardProxy] = []

    async def make(*arguments: Any) -> ForwardProxy:
        proxies.append(ForwardProxy(hidden, *arguments))
        await proxies[-1].start()
        return proxies[-1]

    yield make
    for proxy in proxies:
        await proxy.stop()


@pytest.fixture
def straight_to_keystone(environment: pytest.MonkeyPatch) -> None:
    """Signing in does not go through the proxies: Keystone has an address, Swift a name."""
    environment.setenv("no_proxy", "127.0.0.1")


async def works(store: Place, make_file: Any) -> None:
    await store.put("object", make_file(LARGE))
    sink = Sink()
    await (await store.get("object")).deliver(sink)
    assert sink.content == LARGE


def passed(proxy: ForwardProxy) -> list[tuple[str, str]]:
    """Method and target of each request that the proxy saw."""
    return [(seen.method, seen.target) for seen in proxy.passed]


TUNNEL = ("CONNECT", f"localhost:{HIDDEN_PORT}")


# Through


@pytest.mark.usefixtures("straight_to_keystone")
@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "HTTP_PROXY"])
async def test_plain_http_names_the_whole_url(
    faulty: Faulty,
    hidden: Hidden,
    container: str,
    make_file: Callable[[bytes], FileSource],
    make_proxy: Callable[..., Awaitable[ForwardProxy]],
    environment: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """Requests for http:// go to the proxy with their whole URL, also those that resume a body."""
    proxy = await make_proxy()
    environment.setenv(variable, proxy.url)
    faulty.proxy.add(Cut(in_response(500_000), match=("GET", "")))
    await works(Place(hidden.client(faulty), container), make_file)
    assert passed(proxy) == [
        ("PUT", f"{url_of(faulty)}/{container}/object"),
        ("GET", f"{url_of(faulty)}/{container}/object"),
        ("GET", f"{url_of(faulty)}/{container}/object"),
    ]
    assert "proxy-authorization" not in proxy.passed[0].headers


@pytest.mark.usefixtures("straight_to_keystone")
@pytest.mark.parametrize("variable", ["https_proxy", "all_proxy"])
async def test_https_goes_through_a_tunnel(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    hidden: Hidden,
    container: str,
    make_file: Callable[[bytes], FileSource],
    make_proxy: Callable[..., Awaitable[ForwardProxy]],
    environment: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """For https the proxy sees one CONNECT, and all requests go through that tunnel."""
    proxy = await make_proxy()
    environment.setenv(variable, proxy.url)
    faulty = await make_faulty(tls=authority.server_context())
    store = Place(hidden.client(faulty, cacert=str(authority.ca)), container)
    await works(store, make_file)
    assert passed(proxy) == [TUNNEL]
    assert proxy.tunnel_bytes > len(LARGE)
    download = await store.get("object")
    download.abandon()
    await faulty.proxy.wait_closed()


@pytest.mark.usefixtures("straight_to_keystone")
async def test_certificates_count_inside_a_tunnel(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    hidden: Hidden,
    container: str,
    make_proxy: Callable[..., Awaitable[ForwardProxy]],
    environment: pytest.MonkeyPatch,
) -> None:
    """The client verifies Swift's certificate, inside the tunnel."""
    proxy = await make_proxy()
    environment.setenv("https_proxy", proxy.url)
    faulty = await make_faulty(tls=authority.server_context())
    with pytest.raises(UntrustedServerError, match="'cacert'"):
        await Place(hidden.client(faulty), container).get("object")
    assert passed(proxy) == [TUNNEL]


def with_user(proxy: ForwardProxy, password: str) -> str:
    return proxy.url.replace("://", f"://us%40er:{password}@")


@pytest.mark.usefixtures("straight_to_keystone")
@pytest.mark.parametrize("tls", [False, True])
async def test_a_proxy_with_a_password(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    hidden: Hidden,
    container: str,
    make_file: Callable[[bytes], FileSource],
    make_proxy: Callable[..., Awaitable[ForwardProxy]],
    environment: pytest.MonkeyPatch,
    tls: bool,
) -> None:
    """User and password of the proxy's URL are decoded and sent, to the proxy only."""
    proxy = await make_proxy(f"us@er:{PASSWORD}")
    environment.setenv("all_proxy", with_user(proxy, QUOTED))
    faulty = await make_faulty(tls=authority.server_context() if tls else None)
    client = hidden.client(faulty, **({"cacert": str(authority.ca)} if tls else {}))
    await works(Place(client, container), make_file)
    url = f"{url_of(faulty)}/{container}/object"
    assert passed(proxy) == ([TUNNEL] if tls else [("PUT", url), ("GET", url)])
    shown = {seen.headers.get("proxy-authorization") for seen in proxy.passed}
    assert shown == {"Basic " + b64encode(f"us@er:{PASSWORD}".encode()).decode()}
    assert [seen.method for seen in faulty.proxy.requests] == ["PUT", "GET"]
    assert not any("proxy-authorization" in seen.headers for seen in faulty.proxy.requests)


@pytest.mark.usefixtures("straight_to_keystone")
@pytest.mark.parametrize("tls", [False, True])
async def test_a_wrong_password_says_so(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    hidden: Hidden,
    container: str,
    make_proxy: Callable[..., Awaitable[ForwardProxy]],
    environment: pytest.MonkeyPatch,
    tls: bool,
) -> None:
    """The error names the proxy's 407 and shows no password."""
    proxy = await make_proxy(f"us@er:{PASSWORD}")
    environment.setenv("all_proxy", with_user(proxy, "s3cr3t"))
    faulty = await make_faulty(tls=authority.server_context() if tls else None)
    with pytest.raises(SwiftProviderError, match="407") as caught:
        await Place(hidden.client(faulty, patience=NO_TIME), container).get("object")
    asked = TUNNEL if tls else ("GET", f"{url_of(faulty)}/{container}/object")
    assert set(passed(proxy)) == {asked}
    shown = f"{caught.value!r} {caught.value}"
    assert "s3cr3t" not in shown
    assert "us@er" not in shown
    assert faulty.proxy.connections_ever == 0


@pytest.mark.usefixtures("straight_to_keystone")
@pytest.mark.parametrize("status", [403, 502])
async def test_a_proxy_that_repeats_the_request(
    hidden: Hidden,
    container: str,
    rude: Any,
    environment: pytest.MonkeyPatch,
    make_faulty: Callable[..., Awaitable[Faulty]],
    status: int,
) -> None:
    """What it repeats of the password is not shown."""
    faulty = await make_faulty()
    shown = b64encode(f"user:{PASSWORD}".encode())
    page = b"Proxy-Authorization: Basic %b refused\r\n\r\n" % shown
    head = b"HTTP/1.1 %d No\r\nContent-Length: %d\r\nConnection: close" % (status, len(page))
    rude.answer = head + b"\r\n\r\n" + page
    environment.setenv(
        "http_proxy", f"http://user:{quote(PASSWORD, safe='')}@127.0.0.1:{rude.port}"
    )
    with pytest.raises(SwiftProviderError, match=str(status)) as caught:
        await Place(hidden.client(faulty, patience=NO_TIME), container).get("object")
    text = f"{caught.value!r} {caught.value}"
    assert "Proxy-Authorization: Basic *** refused" in text
    assert shown.decode() not in text


# Refused


class Rude(Protocol):
    """A proxy that sends ``factory.answer``; ``None`` for no answer, ``b""`` for a close.
    With ``factory.inside``, that follows in the tunnel, ``factory.piece`` bytes at once.
    """

    asked = False

    def connectionMade(self) -> None:
        self.factory.open += 1  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        answer = self.factory.answer  # type: ignore[attr-defined]
        if answer is not None:
            if self.asked:
                return
            self.transport.write(answer)  # type: ignore[union-attr]
            if self.factory.inside:  # type: ignore[attr-defined]
                self.asked = True
                reactor.callLater(0.01, self.speak, self.factory.inside)  # type: ignore[attr-defined]
            elif not answer or answer.endswith(b"\r\n\r\n"):
                self.transport.loseConnection()  # type: ignore[union-attr]

    def speak(self, left: bytes) -> None:
        piece = self.factory.piece  # type: ignore[attr-defined]
        self.transport.write(left[:piece])  # type: ignore[union-attr]
        if left[piece:]:
            reactor.callLater(0.001, self.speak, left[piece:])  # type: ignore[attr-defined]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.open -= 1  # type: ignore[attr-defined]


@pytest_twisted.async_yield_fixture
async def rude(environment: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    factory: Any = Factory.forProtocol(Rude)
    factory.noisy = False
    factory.answer, factory.open, factory.inside = None, 0, b""
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    factory.port = listening.getHost().port
    environment.setenv("https_proxy", f"http://127.0.0.1:{factory.port}")
    yield factory
    await listening.stopListening()


async def closed(factory: Any) -> None:
    """Wait until no connection to the proxy is left."""
    await until(lambda: not factory.open)


URL = "https://swift.invalid/v1/AUTH_x"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "'502 Bad Gateway'"),
        (b"HTTP/1.0 407 Sign In\r\n\r\n", "'407 Sign In'"),
        (b"\x00garbage\r\n\r\n", "CONNECT"),
        (b"SSH-2.0-OpenSSH 200\r\n\r\n", "CONNECT"),
        (b"\r\n\r\n", "CONNECT"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 Fine\r\n" + b"X: y\r\n" * 10_000, "too long"),
    ],
    ids=["502", "407", "garbage", "another protocol", "nothing", "close", "endless"],
)
async def test_a_proxy_that_opens_no_tunnel(
    make_client: Callable[..., SwiftClient], rude: Any, answer: bytes, reason: str
) -> None:
    """The error repeats what the proxy answered, and no connection to it is left."""
    rude.answer = answer
    store = Place(make_client(storage_url=URL, patience=NO_TIME), "box")
    with pytest.raises(ConnectionFailedError, match=f"the proxy opened no tunnel.*{reason}"):
        await store.get("object")
    await closed(rude)


@pytest.mark.parametrize("status", [b"502 Bad Gateway", b"504 Time-out", b"429 Slow down"])
@pytest.mark.parametrize("piece", [1, 1000])
async def test_a_tunnel_in_which_the_proxy_answers(
    make_client: Callable[..., SwiftClient], rude: Any, status: bytes, piece: int
) -> None:
    """A proxy that cannot reach Swift after all is worth another try; it is no TLS error."""
    rude.answer = b"HTTP/1.1 200 OK\r\n\r\n"
    rude.inside, rude.piece = b"HTTP/1.1 %b\r\n\r\n" % status, piece
    store = Place(make_client(storage_url=URL, patience=NO_PATIENCE), "box")
    with pytest.raises(ConnectionFailedError, match=f"opened one and then .*{status.decode()}"):
        await store.get("object")
    await closed(rude)


async def test_a_tunnel_to_a_port_without_tls(
    make_client: Callable[..., SwiftClient], rude: Any
) -> None:
    """An https URL for an http port stays a final error."""
    rude.answer = b"HTTP/1.1 200 OK\r\n\r\n"
    rude.inside, rude.piece = b"HTTP/1.1 400 Bad Request\r\n\r\n", 1000
    with pytest.raises(UntrustedServerError, match="no TLS connection"):
        await Place(make_client(storage_url=URL), "box").get("object")
    await closed(rude)


async def test_a_proxy_that_never_answers(
    make_client: Callable[..., SwiftClient], rude: Any
) -> None:
    """The limit on connecting includes the tunnel, and its connection is closed."""
    store = Place(make_client(storage_url=URL, connect_timeout=0.2, patience=NO_TIME), "box")
    with pytest.raises(TimedOutError, match=r"no connection was made for 0\.2 seconds"):
        await store.get("object")
    await closed(rude)


async def test_cancelling_while_the_tunnel_is_opened(
    make_client: Callable[..., SwiftClient], rude: Any
) -> None:
    """Cancelling while the tunnel is opened closes the connection to the proxy."""
    store = Place(make_client(storage_url=URL), "box")
    getting = ensureDeferred(store.get("object"))
    await until(lambda: rude.open)
    getting.cancel()
    with pytest.raises(CancelledError):
        await getting
    await closed(rude)


@pytest.mark.usefixtures("straight_to_keystone")
async def test_a_tunnel_to_nowhere(
    make_client: Callable[..., SwiftClient],
    make_proxy: Callable[..., Awaitable[ForwardProxy]],
    environment: pytest.MonkeyPatch,
) -> None:
    """A proxy that cannot reach Swift says 502."""
    proxy = await make_proxy()
    environment.setenv("https_proxy", proxy.url)
    url = f"https://localhost:{HIDDEN_PORT}/v1/AUTH_x"
    store = Place(make_client(storage_url=url, patience=NO_TIME), "box")
    with pytest.raises(ConnectionFailedError, match="502"):
        await store.get("object")
    assert set(passed(proxy)) == {TUNNEL}


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there(
    make_client: Callable[..., SwiftClient], environment: pytest.MonkeyPatch, scheme: str
) -> None:
    """The error says that the proxy refused the connection."""
    url = f"{scheme}://swift.invalid/v1/AUTH_x"
    store = Place(make_client(storage_url=url, patience=NO_TIME), "box")
    environment.setenv(f"{scheme}_proxy", "http://127.0.0.1:1")
    environment.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionFailedError, match="connection refused"):
        await store.get("object")


# The choice


@pytest.mark.usefixtures("straight_to_keystone")
@pytest.mark.parametrize("bypass", ["127.0.0.1", "*", "127.0.0.0/8", "example.org,127.0.0.1"])
async def test_no_proxy_goes_straight(
    faulty: Faulty,
    container: str,
    make_file: Callable[[bytes], FileSource],
    make_proxy: Callable[..., Awaitable[ForwardProxy]],
    environment: pytest.MonkeyPatch,
    bypass: str,
) -> None:
    """Hosts in ``no_proxy`` are reached without the proxy."""
    proxy = await make_proxy()
    environment.setenv("http_proxy", proxy.url)
    environment.setenv("no_proxy", bypass)
    await works(faulty.store(container), make_file)
    assert proxy.passed == []


ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"http_proxy": "http://p:1"},
    {"https_proxy": "http://p:2"},
    {"all_proxy": "http://p:3"},
    {"http_proxy": "http://p:1", "https_proxy": "http://p:2", "all_proxy": "http://p:3"},
    {"all_proxy": "http://p:3", "no_proxy": "swift.example.org"},
    {"all_proxy": "http://p:3", "no_proxy": ".example.org, 10.0.0.0/8"},
    {"all_proxy": "http://p:3", "no_proxy": "swift.example.org:8080"},
    {"all_proxy": "p:3"},
    {"all_proxy": "http://user:word@p"},
    {"https_proxy": "", "all_proxy": "http://p:3"},
]

URLS = [
    "http://swift.example.org/v1/AUTH_x",
    "https://swift.example.org/v1/AUTH_x",
    "http://swift.example.org:8080/v1",
    "https://swift.example.org:8080/v1",
    "https://example.com/v1",
    "http://10.1.2.3/v1",
    "https://127.0.0.1:9/v1",
]


@pytest.mark.parametrize("variables", ENVIRONMENTS, ids=str)
def test_the_choice_is_that_of_requests(
    environment: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Swift is reached through the same proxy as Keystone, which ``requests`` chooses."""
    for name, value in variables.items():
        environment.setenv(name, value)
    for url in URLS:
        proxies = requests.Session().merge_environment_settings(url, {}, None, None, None)
        expected = select_proxy(url, proxies["proxies"])
        chosen = proxy_for(url)
        if not expected:
            assert chosen is None, url
        else:
            assert chosen is not None, url
            host, _, port = expected.rpartition("@")[2].rpartition("//")[2].partition(":")
            assert (chosen.host, chosen.port) == (host, int(port or 80)), url
            assert (chosen.authorization is not None) == ("@" in expected)


def test_some_choices_by_hand(environment: pytest.MonkeyPatch) -> None:
    """Host, port and password of the proxy come from the variables."""
    environment.setenv("http_proxy", "http://plain:3128")
    environment.setenv("https_proxy", "http://user:pass%3Aword@tunnel")
    environment.setenv("no_proxy", "near.example.org")
    plain = proxy_for("http://far.example.org/")
    tunnel = proxy_for("https://far.example.org/")
    assert plain is not None
    assert tunnel is not None
    assert (plain.host, plain.port, plain.authorization) == ("plain", 3128, None)
    assert (tunnel.host, tunnel.port) == ("tunnel", 80)
    assert tunnel.authorization == b"Basic dXNlcjpwYXNzOndvcmQ="
    assert proxy_for("https://near.example.org/") is None
    assert "dXNl" not in repr(tunnel)
    assert "pass" not in repr(tunnel)


@pytest.mark.parametrize("url", ["socks5://user:word@p:1", "https://user:word@p:1", "http://:1"])
def test_a_proxy_that_cannot_be_used(environment: pytest.MonkeyPatch, url: str) -> None:
    """Another kind of proxy is refused by name, without its password."""
    environment.setenv("https_proxy", url)
    with pytest.raises(ConfigError, match="the proxy for https") as caught:
        proxy_for("https://swift.example.org/")
    assert "word" not in str(caught.value)


MALFORMED = [
    "http://user:s3/cret@127.0.0.1:1",
    "http://user:s3cret@127.0.0.1:port",
    "http://user:s3cret@127.0.0.1:99999",
    "http://user:s3cret@[::1",
    f"http://user:s3cret@{'a' * 70}.example:1",
]


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_proxy_is_named(
    environment: pytest.MonkeyPatch, url: str, variable: str
) -> None:
    """The message names the variable, and nothing of the URL: the password may be anywhere."""
    environment.setenv(variable, url)
    with pytest.raises(ConfigError, match=f"^{variable} is not a URL like") as caught:
        proxy_for("https://swift.example.org/")
    assert not any(part in str(caught.value) for part in ("s3", "cret", "127"))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", MALFORMED[:1])
async def test_a_malformed_proxy_ends_a_request(
    make_client: Callable[..., SwiftClient], environment: pytest.MonkeyPatch, url: str
) -> None:
    """For Swift, and for Keystone as well."""
    environment.setenv("https_proxy", url)
    environment.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConfigError, match="https_proxy"):
        await Place(make_client(storage_url=URL), "box").get("object")
    auth = {"auth_url": "https://keystone.invalid/v3", "user_id": "u", "password": "p"}
    client = make_client(auth_type="v3password", auth=auth)
    with pytest.raises(ConfigError, match="https_proxy"):
        await Place(client, "box").get("object")


async def test_a_proxy_that_cannot_be_used_ends_a_request(
    make_client: Callable[..., SwiftClient], environment: pytest.MonkeyPatch
) -> None:
    """An unusable proxy ends the first request with a final error."""
    environment.setenv("no_proxy", "127.0.0.1")
    environment.setenv("https_proxy", "socks5://user:word@p:1")
    client = make_client(storage_url=URL)
    with pytest.raises(ConfigError, match="socks5"):
        await Place(client, "box").get("object")
    assert client.slots.in_flight == 0
