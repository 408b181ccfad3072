"""Small files from memory, in our own process: real Swift, behind a fault proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, gatherResults
from twisted.internet.task import Clock

from swift_provider.client import Download, Patience, Store, SwiftClient, WholeDownload
from swift_provider.config import parse_settings
from swift_provider.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    ServerBusyError,
    SwiftError,
)
from swift_provider.module.log_context import begin_for_caller
from swift_provider.module.metrics import Metrics
from swift_provider.module.small_files import (
    HEAD_SECONDS,
    PAUSE_SECONDS,
    PROVEN_SECONDS,
    SHARE_SECONDS,
    UNREACHABLE_SECONDS,
    SmallFiles,
)
from tests.module.homeservers import OUTAGE
from tests.module.storage import Storage
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import BEFORE_RESPONSE, ON_REQUEST, Answer, Stall
from tests.servers.keystone import REGION, Credentials

SMALL = bytes(range(256)) * 20  # 5 KB
LARGE = bytes(range(256)) * 4000  # 1 MB


class Place(Metrics):
    """A container, its small files, and what is counted.

    :ivar clock: tells the time to the small files; the client goes by the reactor's.
    :ivar told: how often each result was counted.
    """

    def __init__(self, client: SwiftClient, proxy: FaultProxy, storage: Storage) -> None:
        self.container = f"small-{uuid4().hex[:8]}"
        super().__init__("here", self.container)
        self.client = client
        self.proxy = proxy
        self._storage = storage
        self.clock = Clock()
        self.told: dict[str, int] = {}
        self.store = Store(client, self.container, "matrix/")
        self.files = self.limited_to(1 << 20)
        storage.make(self.container)

    def limited_to(self, limit: int) -> SmallFiles:
        return SmallFiles(self.store, limit, self.clock, self)

    def memory_request(self, result: str) -> None:
        self.told[result] = self.told.get(result, 0) + 1

    def put(self, content: bytes, **headers: str) -> None:
        self._storage.put(self.container, "matrix/name", content, **headers)

    def delete(self) -> None:
        self._storage.delete(self.container, "matrix/name")

    def begin(self) -> Deferred[Download]:
        return begin_for_caller(self.files.get, "name")

    async def get(self) -> bytes:
        """The content of a small file."""
        download = await self.begin()
        assert isinstance(download, WholeDownload)
        return download.content

    async def warm(self, content: bytes = SMALL) -> None:
        """Put the file into Swift and, by two requests, into memory."""
        self.put(content)
        for _ in range(2):
            assert await self.get() == content
        self.told.clear()
        self.proxy.requests.clear()

    def requests(self) -> list[str]:
        return [seen.method for seen in self.proxy.requests if seen.path.endswith("/name")]

    async def nothing_left(self) -> None:
        await self.proxy.wait_idle()
        assert (self.client.slots.in_flight, self.client.slots.waiting) == (0, 0)
        assert not self.files._requests


@pytest.fixture
def place(storage: Storage, account: Credentials) -> Iterator[Place]:
    host, port = storage.url.split("/")[2].split(":")
    proxy = FaultProxy(reactor, host, int(port))
    pytest_twisted.blockon(ensureDeferred(proxy.start()))
    settings = parse_settings(
        {
            "container": "unused",
            "auth_type": "password",
            "auth": account.auth(),
            "region_name": REGION,
            "storage_url": proxy.url_for(storage.url),
        }
    )
    patience = Patience(
        total_seconds=0.0, first_delay=0.01, longest_delay=0.01, operation_seconds=30.0
    )
    client = SwiftClient.from_settings(reactor, settings, patience=patience)
    made = Place(client, proxy, storage)
    yield made
    pytest_twisted.blockon(ensureDeferred(made.nothing_left()))
    pytest_twisted.blockon(ensureDeferred(client.close()))
    pytest_twisted.blockon(ensureDeferred(proxy.stop()))


async def test_from_memory(place: Place) -> None:
    """The second request puts a file into memory, and the third asks nothing of Swift."""
    place.put(SMALL)
    for _ in range(4):
        assert await place.get() == SMALL
    assert place.requests() == ["GET", "GET"]
    assert place.told == {"miss": 2, "hit": 2}


async def test_each_request_has_its_own_download(place: Place) -> None:
    """An abandoned download takes nothing from the others; the bytes are not copied."""
    await place.warm()
    first, second = await place.begin(), await place.begin()
    assert isinstance(first, WholeDownload)
    assert isinstance(second, WholeDownload)
    assert first.content is second.content
    first.abandon()
    assert second.content == SMALL
    assert second.info.size == len(SMALL)
    assert second.info.name == "matrix/name"


async def test_the_limit_in_bytes(place: Place) -> None:
    """A file that does not fit is fetched each time."""
    place.files = place.limited_to(len(SMALL))
    place.put(SMALL)
    for _ in range(3):
        await place.get()
    assert place.requests() == ["GET"] * 3


async def test_large_files_pass_through(place: Place) -> None:
    """A file that is not read whole is not kept."""
    place.put(LARGE)
    for _ in range(3):
        download = await place.begin()
        assert not isinstance(download, WholeDownload)
        download.abandon()
    assert place.requests() == ["GET"] * 3
    assert place.told == {}


async def test_a_file_that_swift_will_delete_is_not_kept(place: Place) -> None:
    """An object with ``X-Delete-At`` ends without anybody's saying so."""
    place.put(SMALL, **{"X-Delete-After": "3600"})
    for _ in range(3):
        await place.get()
    assert place.requests() == ["GET"] * 3


# Requests at the same time


@pytest.mark.parametrize("limit", [0, 1 << 20])
async def test_requests_at_once(place: Place, limit: int) -> None:
    """Fifty requests share one GET, also if nothing is kept; if files are, this one is then."""
    place.files = place.limited_to(limit)
    place.put(SMALL)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [place.begin() for _ in range(50)]
    await stall.happened()
    stall.release()
    downloads = await gatherResults(requests, consumeErrors=True)
    assert {download.content for download in downloads} == {SMALL}
    assert len(set(map(id, downloads))) == 50
    assert place.requests() == ["GET"]
    assert place.told == {"miss": 1, "shared": 49}
    await place.get()
    assert len(place.requests()) == (1 if limit else 2)


async def test_large_file_at_once(place: Place) -> None:
    """Requests for one large file get a stream each, all at once after the first."""
    place.put(LARGE)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [place.begin() for _ in range(5)]
    await stall.happened()
    assert place.requests() == ["GET"]
    stall.release()
    downloads = await gatherResults(requests, consumeErrors=True)
    assert len(set(map(id, downloads))) == 5
    assert place.client.slots.in_flight == 5
    for download in downloads:
        download.abandon()
    assert place.requests() == ["GET"] * 5


async def test_missing_at_once(place: Place) -> None:
    """A 404 answers all that wait."""
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [place.begin() for _ in range(5)]
    await stall.happened()
    stall.release()
    errors = [await _error(request) for request in requests]
    assert {type(error) for error in errors} == {ObjectNotFoundError}
    assert place.requests() == ["GET"]


async def test_clients_hang_up(place: Place) -> None:
    """The first one that hangs up leaves the GET to the others; the last one ends it."""
    place.put(SMALL)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    first, second = place.begin(), place.begin()
    await stall.happened()
    first.cancel()
    assert isinstance(await _error(first), CancelledError)
    assert place.client.slots.in_flight == 1
    stall.release()
    assert isinstance(await second, WholeDownload)
    assert place.requests() == ["GET"]

    place.files.drop("name")
    place.proxy.add(Stall(BEFORE_RESPONSE))
    last = place.begin()
    await _turns()
    last.cancel()
    assert isinstance(await _error(last), CancelledError)
    assert place.client.slots.in_flight == 0
    assert await place.get() == SMALL


async def test_hanging_request(place: Place) -> None:
    """A request without an answer delays those who share it by seconds: then each of them sends
    its own. One that comes later does not share it.
    """
    place.put(SMALL)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [place.begin() for _ in range(3)]
    await stall.happened()
    place.clock.advance(SHARE_SECONDS)
    assert [(await request).content for request in requests[1:]] == [SMALL, SMALL]
    place.clock.advance(1)
    assert await place.get() == SMALL
    assert not requests[0].called
    assert place.requests() == ["GET"] * 4
    stall.release()
    assert (await requests[0]).content == SMALL
    assert not place.clock.getDelayedCalls()


# Deletions


async def test_deletion(place: Place) -> None:
    """A file that is dropped is asked for again."""
    await place.warm()
    place.delete()
    assert await place.get() == SMALL
    place.files.drop("name")
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)


async def test_deletion_during_a_get(place: Place) -> None:
    """A GET in flight when a file is dropped answers those who wait, and nobody after them; it
    does not put the file back.
    """
    place.put(SMALL)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    before = [place.begin() for _ in range(2)]
    await stall.happened()
    place.delete()
    place.files.drop("name")
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)
    stall.release()
    downloads = await gatherResults(before, consumeErrors=True)
    assert [download.content for download in downloads] == [SMALL, SMALL]
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)


async def test_replaced(place: Place) -> None:
    """A thumbnail that is made again may have other bytes: its upload drops the old ones."""
    await place.warm()
    place.put(b"made again")
    place.files.drop("name")
    for _ in range(3):
        assert await place.get() == b"made again"


# Proofs


async def test_proof(place: Place) -> None:
    """After an hour the next request asks by HEAD, for all that come with it; then it is good
    for another hour.
    """
    await place.warm()
    place.clock.advance(PROVEN_SECONDS)
    await place.get()
    assert place.requests() == []
    place.clock.advance(1)
    downloads = await gatherResults([place.begin() for _ in range(5)], consumeErrors=True)
    assert {download.content for download in downloads} == {SMALL}
    assert place.requests() == ["HEAD"]
    assert place.told == {"hit": 2, "shared": 4}
    place.clock.advance(PROVEN_SECONDS)
    await place.get()
    assert place.requests() == ["HEAD"]


async def test_proof_of_a_deletion(place: Place) -> None:
    """If another worker has deleted the object, the file is missing after an hour at the latest."""
    await place.warm()
    place.delete()
    place.clock.advance(PROVEN_SECONDS + 1)
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)
    place.proxy.add(Answer(**OUTAGE))
    assert isinstance(await _error(place.begin()), ServerBusyError), "the file was dropped"


@pytest.mark.parametrize("other", [b"other", bytes(len(SMALL))])
async def test_proof_of_a_change(place: Place, other: bytes) -> None:
    """If the object is another one, its bytes are fetched."""
    await place.warm()
    place.put(other)
    place.clock.advance(PROVEN_SECONDS + 1)
    assert await place.get() == other
    assert place.requests() == ["HEAD", "GET"]


async def test_clock_is_set_back(place: Place) -> None:
    """A file is not believed any longer because the system's clock was wrong."""
    place.clock.advance(1_000_000)
    await place.warm()
    place.clock.rightNow -= 500_000
    place.delete()
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)


async def test_swift_is_unreachable(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """While Swift is unreachable, a file that was proven is served, for a day; one HEAD in a
    minute asks whether it still is.
    """
    await place.warm()
    place.proxy.add(Answer(**OUTAGE))
    place.clock.advance(PROVEN_SECONDS + 1)
    for _ in range(3):
        assert await place.get() == SMALL
    assert place.requests() == ["HEAD"]
    (line,) = [text for text in caplog.messages if "served from memory" in text]
    assert line.startswith("name is served from memory, and Swift cannot be asked")
    assert "HTTP 503" in line
    place.clock.advance(PAUSE_SECONDS)
    assert await place.get() == SMALL
    assert place.requests() == ["HEAD", "HEAD"]
    place.clock.advance(UNREACHABLE_SECONDS - PROVEN_SECONDS)
    assert isinstance(await _error(place.begin()), ServerBusyError)
    assert place.requests() == ["HEAD", "HEAD", "GET"]
    place.proxy.clear()
    assert await place.get() == SMALL


async def test_proof_is_a_day_old(place: Place) -> None:
    """A file whose proof becomes a day old during an outage is not served any longer."""
    await place.warm()
    place.proxy.add(Answer(**OUTAGE))
    place.clock.advance(UNREACHABLE_SECONDS - 1)
    assert await place.get() == SMALL
    place.clock.advance(2)
    assert isinstance(await _error(place.begin()), ServerBusyError)


async def test_swift_is_back(place: Place) -> None:
    """After an outage the next HEAD finds a deletion."""
    await place.warm()
    place.proxy.add(Answer(**OUTAGE))
    place.clock.advance(PROVEN_SECONDS + 1)
    assert await place.get() == SMALL
    place.proxy.clear()
    place.delete()
    place.clock.advance(PAUSE_SECONDS)
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)


async def test_swift_does_not_answer(place: Place) -> None:
    """A HEAD without an answer delays the file by seconds, and releases its slot."""
    await place.warm()
    place.proxy.add(stall := Stall(ON_REQUEST))
    place.clock.advance(PROVEN_SECONDS + 1)
    request = place.begin()
    await stall.happened()
    assert not request.called
    place.clock.advance(HEAD_SECONDS)
    assert isinstance(await request, WholeDownload)


async def test_swift_refuses(place: Place) -> None:
    """A 403 is no outage: the error is shown, and the file is not served."""
    await place.warm()
    place.proxy.add(Answer(403))
    place.clock.advance(PROVEN_SECONDS + 1)
    assert isinstance(await _error(place.begin()), AccessDeniedError)
    assert await place.get() == SMALL
    assert place.requests() == ["HEAD", "HEAD"]


async def test_client_hangs_up_during_a_head(place: Place) -> None:
    """The HEAD is cancelled; it is no sign that Swift is unreachable."""
    await place.warm()
    place.proxy.add(stall := Stall(ON_REQUEST))
    place.clock.advance(PROVEN_SECONDS + 1)
    request = place.begin()
    await stall.happened()
    request.cancel()
    assert isinstance(await _error(request), CancelledError)
    assert not place.clock.getDelayedCalls()
    assert await place.get() == SMALL
    assert place.requests() == ["HEAD", "HEAD"]


async def _error(request: Deferred[Any]) -> SwiftError | CancelledError:
    with pytest.raises((SwiftError, CancelledError)) as caught:
        await request
    return caught.value


async def _turns() -> None:
    from twisted.internet.task import deferLater

    for _ in range(20):
        await deferLater(reactor, 0.002)
