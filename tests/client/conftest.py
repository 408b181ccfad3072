"""Clients of the real Swift, and what they read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from swift_provider.client import FileSource, Patience, SwiftClient
from swift_provider.config import parse_settings
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
def container(make_client: Callable[..., SwiftClient]) -> str:
    """A new, empty container."""
    name = f"tests-{uuid4().hex[:12]}"
    from twisted.internet.defer import ensureDeferred

    pytest_twisted.blockon(ensureDeferred(make_client().create_container(name)))
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
