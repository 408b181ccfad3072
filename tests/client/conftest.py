"""Clients of the real Swift, and what they read and write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from swift_provider.client import FileSource, Patience, Place, SwiftClient
from swift_provider.config import parse_settings
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Fault, Pass
from tests.servers.keystone import REGION, Credentials
from tests.servers.swift import Swift
from tests.servers.tls import Authority, make_ca

#: Gives up soon, so that a test of a lasting failure is quick.
IMPATIENT = Patience(total_seconds=2.0, first_delay=0.01, longest_delay=0.1, operation_seconds=30.0)


@implementer(IConsumer)
class Sink:
    """Keeps what it is given; pauses its producer if told to.

    :ivar events: what happened, in order, but for the writes.
    """

    def __init__(self, pause_after: int | None = None) -> None:
        self.content = b""
        self.producer: IPushProducer | None = None
        self.pause_after = pause_after
        self.on_write: Callable[[], None] = lambda: None
        self.events: list[str] = []

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming
        self.events.append("registered")
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.events.append("unregistered")
        self.producer = None

    def write(self, data: bytes) -> None:
        self.content += data
        if self.pause_after is not None and len(self.content) >= self.pause_after:
            self.pause_after = None
            assert self.producer is not None
            self.producer.pauseProducing()
        self.on_write()


@pytest.fixture
def make_client(account: Credentials, swift: Swift) -> Iterator[Callable[..., SwiftClient]]:
    """Makes clients of the real Swift, or of ``storage_url``; closes them in the end."""
    clients: list[SwiftClient] = []

    def make(
        patience: Patience = IMPATIENT,
        shares_reactor: bool = True,
        observer: Any = None,
        **options: Any,
    ) -> SwiftClient:
        defaults = {
            "container": "tests",
            "auth_type": "password",
            "auth": account.auth(),
            "region_name": REGION,
        }
        client = SwiftClient.from_settings(
            reactor,
            parse_settings({**defaults, **options}),
            patience=patience,
            shares_reactor=shares_reactor,
            observer=observer,
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        assert client.slots.in_flight == 0, "a slot was not released"
        assert client.slots.waiting == 0
        pytest_twisted.blockon(ensureDeferred(client.close()))


@pytest.fixture
def client(make_client: Callable[..., SwiftClient]) -> SwiftClient:
    """A client of the real Swift."""
    return make_client()


@pytest.fixture
def container(client: SwiftClient) -> str:
    """A new, empty container."""
    name = f"tests-{uuid4().hex[:12]}"
    pytest_twisted.blockon(ensureDeferred(Place(client, name).create()))
    return name


@pytest.fixture
def store(client: SwiftClient, container: str) -> Place:
    """The new container, without a proxy on the way to it."""
    return Place(client, container)


@pytest.fixture
def make_file(tmp_path: Path) -> Iterator[Callable[[bytes], FileSource]]:
    """Makes a file to upload, and opens it."""
    sources: list[FileSource] = []

    def make(content: bytes) -> FileSource:
        path = tmp_path / f"upload-{len(sources)}"
        path.write_bytes(content)
        sources.append(FileSource.open(path))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


class RecordingProxy(FaultProxy):
    """Remembers its faults, to check at the end of a test that they happened."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._added: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        """Add faults that must happen in this test: each as often as its ``times`` says,
        or at least once if it says ``None``.
        """
        self._added.extend(faults)
        super().add(*faults)

    def add_optional(self, *faults: Fault) -> None:
        """Add faults that may happen less often, or never."""
        super().add(*faults)

    def unused_faults(self) -> list[Fault]:
        """The faults that must happen and did not, or not often enough."""
        return [fault for fault in self._added if not _happened(fault)]


def _happened(fault: Fault) -> bool:
    count = fault.taken if isinstance(fault, Pass) else fault.fired
    return count > 0 if fault.times is None else count == fault.times


@pytest_twisted.async_yield_fixture
async def make_fault_proxy() -> AsyncIterator[Callable[..., Awaitable[RecordingProxy]]]:
    """Starts proxies in front of a port; fails the test if a fault did not happen."""
    proxies: list[RecordingProxy] = []

    async def make(port: int | None, tls: Any = None) -> RecordingProxy:
        proxy = RecordingProxy(reactor, "127.0.0.1", port, tls=tls)
        await proxy.start()
        proxies.append(proxy)
        return proxy

    yield make
    for proxy in proxies:
        await proxy.stop()
    unused = [fault for proxy in proxies for fault in proxy.unused_faults()]
    assert not unused, f"these faults did not happen (as often as they should): {unused}"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of the proxies that speak TLS."""
    return make_ca(tmp_path_factory.mktemp("ca"))


PutObject = Callable[..., Awaitable[None]]


@pytest.fixture
def put_object(store: Place, make_file: Callable[[bytes], FileSource]) -> PutObject:
    """Puts an object into Swift, past the proxy; its name is ``object`` by default."""

    async def put(content: bytes, name: str = "object") -> None:
        await store.put(name, make_file(content))

    return put


@dataclass
class Faulty:
    """The real Swift behind a proxy that breaks exchanges as it is told.

    :ivar storage_url: of the account, by way of the proxy.
    :ivar clients: all clients that were made here.
    """

    proxy: RecordingProxy
    storage_url: str
    make_client: Callable[..., SwiftClient]
    clients: list[SwiftClient] = field(default_factory=list)

    def client(self, **options: Any) -> SwiftClient:
        """A client that reaches Swift through the proxy only."""
        self.clients.append(self.make_client(**{"storage_url": self.storage_url, **options}))
        return self.clients[-1]

    def store(self, container: str, **options: Any) -> Place:
        """A container, by a new client that reaches Swift through the proxy only."""
        return Place(self.client(**options), container)


@pytest.fixture
def make_faulty(
    make_client: Callable[..., SwiftClient],
    make_fault_proxy: Callable[..., Awaitable[RecordingProxy]],
    account: Credentials,
    swift: Swift,
) -> Callable[..., Awaitable[Faulty]]:
    """Puts a proxy in front of Swift; ``tls`` as of :class:`FaultProxy`."""

    async def make(tls: Any = None) -> Faulty:
        proxy = await make_fault_proxy(urlsplit(swift.url).port, tls)
        url = proxy.url_for(swift.account_url(account.project_id))
        return Faulty(proxy, url, make_client)

    return make


@pytest_twisted.async_yield_fixture
async def faulty(
    make_faulty: Callable[..., Awaitable[Faulty]],
) -> AsyncIterator[Faulty]:
    """The real Swift behind a proxy, without TLS."""
    yield await make_faulty()


@pytest_twisted.async_yield_fixture
async def pair(
    make_faulty: Callable[..., Awaitable[Faulty]], make_client: Callable[..., SwiftClient]
) -> AsyncIterator[Any]:
    """Two containers, each behind a proxy of its own; a ``Pair`` of ``tests.client.copies``."""
    from tests.client.copies import Pair, make_side  # which import from here

    yield Pair(await make_side(make_faulty, make_client), await make_side(make_faulty, make_client))
