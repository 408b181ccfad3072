"""Clients of the real Swift, and what they read and write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from swift_provider.client import FileSource, Patience, SwiftClient
from swift_provider.config import parse_settings
from tests.servers.fault_proxy import FaultProxy
from tests.servers.keystone import REGION, Credentials
from tests.servers.swift import Swift

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
        assert client.slots.in_flight == 0, "a slot was not given back"
        assert client.slots.waiting == 0
        pytest_twisted.blockon(_closed(client))


def _closed(client: SwiftClient) -> Any:
    from twisted.internet.defer import ensureDeferred

    return ensureDeferred(client.close())


@pytest.fixture
def client(make_client: Callable[..., SwiftClient]) -> SwiftClient:
    """A client of the real Swift."""
    return make_client()


@pytest.fixture
def container(client: SwiftClient) -> str:
    """A new, empty container."""
    name = f"tests-{uuid4().hex[:12]}"
    from twisted.internet.defer import ensureDeferred

    pytest_twisted.blockon(ensureDeferred(client.create_container(name)))
    return name


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


@dataclass
class Faulty:
    """The real Swift behind a proxy that breaks exchanges as it is told.

    :ivar storage_url: of the account, by way of the proxy.
    """

    proxy: FaultProxy
    storage_url: str
    _make_client: Callable[..., SwiftClient]

    def client(self, **options: Any) -> SwiftClient:
        """A client that reaches Swift through the proxy only."""
        return self._make_client(storage_url=self.storage_url, **options)


@pytest_twisted.async_yield_fixture
async def make_faulty(
    make_client: Callable[..., SwiftClient], account: Credentials, swift: Swift
) -> AsyncIterator[Callable[..., Awaitable[Faulty]]]:
    """Puts a proxy in front of Swift; ``tls`` as of :class:`FaultProxy`."""
    proxies: list[FaultProxy] = []

    async def make(tls: Any = None) -> Faulty:
        proxy = FaultProxy(reactor, "127.0.0.1", urlsplit(swift.url).port, tls=tls)
        await proxy.start()
        proxies.append(proxy)
        url = proxy.url_for(swift.account_url(account.project_id))
        return Faulty(proxy, url, make_client)

    yield make
    for proxy in proxies:
        await proxy.stop()


@pytest_twisted.async_yield_fixture
async def faulty(
    make_faulty: Callable[..., Awaitable[Faulty]],
) -> AsyncIterator[Faulty]:
    """The real Swift behind a proxy, without TLS."""
    yield await make_faulty()
