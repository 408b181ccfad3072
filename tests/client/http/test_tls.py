"""Whom the client trusts over https, and what it says when it does not."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.protocols.tls import TLSMemoryBIOFactory

from swift_provider.client import FileSource, Place, SwiftClient
from swift_provider.client.http.tls import TlsPolicy
from swift_provider.errors import ConfigError, UntrustedServerError
from tests.client.conftest import Faulty, Sink
from tests.servers.swift import Swift
from tests.servers.tls import Authority, make_ca

LARGE = random.Random(1).randbytes(3_000_000)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another CA."""
    return make_ca(tmp_path_factory.mktemp("stranger"))


@pytest_twisted.async_yield_fixture
async def https(
    make_faulty: Callable[..., Awaitable[Faulty]], authority: Authority
) -> AsyncIterator[Faulty]:
    """Swift behind TLS."""
    yield await make_faulty(tls=authority.server_context())


async def works(store: Place, make_file: Any) -> None:
    await store.put("object", make_file(LARGE))
    sink = Sink()
    await (await store.get("object")).deliver(sink)
    assert hashlib.md5(sink.content).digest() == hashlib.md5(LARGE).digest()


async def refused(client: SwiftClient, container: str, match: str) -> None:
    with pytest.raises(UntrustedServerError, match=match) as caught:
        await Place(client, container).get("object")
    assert not caught.value.temporary
    assert client.slots.in_flight == 0


async def test_an_unknown_authority_is_refused(https: Faulty, container: str) -> None:
    """By default the server must be trusted; the error is final and names the option."""
    await refused(https.client(), container, "'cacert'")
    assert https.proxy.connections_ever == 1
    assert https.proxy.requests == []
    await https.proxy.wait_closed()


async def test_another_authority_is_refused(
    https: Faulty, stranger: Authority, container: str
) -> None:
    """``cacert`` replaces the system's authorities."""
    await refused(https.client(cacert=str(stranger.ca)), container, "'cacert'")
    assert https.proxy.connections_ever == 1


async def test_an_authority_from_a_file(
    https: Faulty, authority: Authority, container: str, make_file: Callable[[bytes], FileSource]
) -> None:
    """``cacert`` may be a file; bodies of both directions pass, on one connection."""
    await works(https.store(container, cacert=str(authority.ca)), make_file)
    assert https.proxy.connections_ever == 1


async def test_the_records_of_one_read_come_together(
    https: Faulty,
    authority: Authority,
    container: str,
    make_file: Callable[[bytes], FileSource],
) -> None:
    """A consumer gets chunks of more than one TLS record, which has at most 16 KiB."""
    store = https.store(container, cacert=str(authority.ca))
    await store.put("object", make_file(LARGE))
    sink, positions = Sink(), [0]
    sink.on_write = lambda: positions.append(len(sink.content))
    await (await store.get("object")).deliver(sink)
    assert max(after - before for before, after in pairwise(positions)) > 16 * 1024
    assert sink.content == LARGE


async def test_an_authority_from_a_folder(
    https: Faulty,
    authority: Authority,
    stranger: Authority,
    container: str,
    make_file: Callable[[bytes], FileSource],
    tmp_path: Path,
) -> None:
    """``cacert`` may be a folder, which may also contain other files."""
    folder = tmp_path / "authorities"
    folder.mkdir()
    shutil.copy(stranger.ca, folder / "a.pem")
    shutil.copy(authority.ca, folder / "b.pem")
    (folder / "README").write_text("not a certificate")
    (folder / "below").mkdir()
    await works(https.store(container, cacert=str(folder)), make_file)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_an_authority_from_the_environment(
    https: Faulty,
    authority: Authority,
    container: str,
    make_file: Callable[[bytes], FileSource],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """The environment variables that Keystone's client reads count for Swift too."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(authority.ca))
    await works(https.store(container), make_file)


async def test_verification_can_be_switched_off(
    https: Faulty, container: str, make_file: Callable[[bytes], FileSource]
) -> None:
    """``verify: false`` trusts any server."""
    await works(https.store(container, verify=False), make_file)


@pytest.mark.parametrize("verify", [True, False])
async def test_a_client_certificate_is_shown(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    container: str,
    make_file: Callable[[bytes], FileSource],
    verify: bool,
) -> None:
    """``cert`` and ``key`` are sent to a server that asks for them."""
    https = await make_faulty(tls=authority.server_context(require_client=True))
    options = {"cacert": str(authority.ca)} if verify else {"verify": False}
    client = https.client(cert=str(authority.client_cert), key=str(authority.client_key), **options)
    await works(Place(client, container), make_file)


async def test_a_missing_client_certificate_says_so(
    make_faulty: Callable[..., Awaitable[Faulty]], authority: Authority, container: str
) -> None:
    """Without the certificate that the server asks for, the error is final and names the option."""
    https = await make_faulty(tls=authority.server_context(require_client=True))
    await refused(https.client(cacert=str(authority.ca)), container, "'cert'")
    assert https.proxy.connections_ever == 1


async def test_a_port_without_tls_says_so(
    make_client: Callable[..., SwiftClient], swift: Swift, container: str
) -> None:
    """https to a port that speaks plain HTTP is a final error."""
    url = swift.account_url("project").replace("http://", "https://")
    await refused(make_client(storage_url=url), container, "plain http")


class Forwarding:
    """Another address of the proxy; may change a byte of what the server sends."""

    def __init__(self, port: int, interface: str) -> None:
        self.flip_at: int | None = None
        self._passed = 0
        factory = ProxyFactory("127.0.0.1", port)
        factory.noisy = False
        outer = self

        class Server(ProxyServer):
            def connectionMade(self) -> None:
                super().connectionMade()
                write = self.transport.write
                self.transport.write = lambda data: write(outer.change(data))

        factory.protocol = Server
        self._listening = reactor.listenTCP(0, factory, interface=interface)
        self.netloc = f"{interface}:{self._listening.getHost().port}"

    def change(self, data: bytes) -> bytes:
        start, self._passed = self._passed, self._passed + len(data)
        if self.flip_at is None or not start <= self.flip_at < self._passed:
            return data
        changed = bytearray(data)
        changed[self.flip_at - start] ^= 1
        self.flip_at = None
        return bytes(changed)

    def url(self, storage_url: str) -> str:
        return urlsplit(storage_url)._replace(netloc=self.netloc).geturl()

    async def stop(self) -> None:
        await self._listening.stopListening()


async def test_a_certificate_for_another_host_is_refused(
    https: Faulty, authority: Authority, container: str
) -> None:
    """A trusted authority's certificate counts only for its own host."""
    elsewhere = Forwarding(https.proxy.port, "127.0.0.2")
    client = https.client(storage_url=elsewhere.url(https.storage_url), cacert=str(authority.ca))
    await refused(client, container, "another host")
    assert https.proxy.requests == []
    await elsewhere.stop()
    await https.proxy.wait_closed()


async def test_a_damaged_record_is_a_broken_connection(
    https: Faulty,
    authority: Authority,
    container: str,
    store: Place,
    make_file: Callable[[bytes], FileSource],
) -> None:
    """A flipped bit in a TLS record breaks the connection, and the body is resumed."""
    line = Forwarding(https.proxy.port, "127.0.0.1")
    await store.put("object", make_file(LARGE))
    line.flip_at = 1_000_000
    by_line = https.store(
        container, storage_url=line.url(https.storage_url), cacert=str(authority.ca)
    )
    sink = Sink()
    await (await by_line.get("object")).deliver(sink)
    assert line.flip_at is None
    assert sink.content == LARGE
    assert len(https.proxy.requests) == 2
    await line.stop()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no certificate in here",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_an_authority_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    """A ``cacert`` that cannot be used is refused at the start, by its path."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cacert: .*ca\.pem"):
        TlsPolicy(str(path), None)


def test_a_client_certificate_that_is_none(authority: Authority, tmp_path: Path) -> None:
    """A ``cert`` that cannot be used is refused at the start, and no key is shown."""
    with pytest.raises(ConfigError, match="cert: cannot read"):
        TlsPolicy(True, str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=r"cert: .*must hold"):
        TlsPolicy(True, str(authority.client_cert))
    locked = tmp_path / "locked.pem"
    key = load_pem_private_key(authority.client_key.read_bytes(), None)
    locked.write_bytes(
        authority.client_cert.read_bytes()
        + key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
        )
    )
    with pytest.raises(ConfigError, match="unencrypted key"):
        TlsPolicy(True, str(locked))


def test_a_host_is_named_but_an_address_is_not() -> None:
    """Server Name Indication is for names (RFC 6066 section 3), verified or not."""
    for verify in (True, False):
        policy = TlsPolicy(verify, None)
        for host, named in ((b"swift.example.org", b"swift.example.org"), (b"127.0.0.1", None)):
            creator = policy.creatorForNetloc(host, 443)
            protocol = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(Protocol))
            connection = creator.clientConnectionForTLS(protocol.buildProtocol(None))
            connection.set_connect_state()
            with pytest.raises(SSL.WantReadError):
                connection.do_handshake()  # Twisted 24.7 sets the name when it begins
            assert connection.get_servername() == named
