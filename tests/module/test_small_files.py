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

from swift_provider.client import (
    Download,
    ObjectInfo,
    Patience,
    Place,
    Progress,
    SwiftClient,
    WholeDownload,
)
from swift_provider.config import parse_settings
from swift_provider.errors import (
    AccessDeniedError,
    DamagedError,
    ObjectNotFoundError,
    ServerBusyError,
    SwiftError,
    SwiftProviderError,
    Target,
    TimedOutError,
)
from swift_provider.module.log_context import begin_for_caller
from swift_provider.module.metrics import Metrics
from swift_provider.module.shared_requests import SHARE_SECONDS
from swift_provider.module.small_files import (
    HEAD_SECONDS,
    PAUSE_SECONDS,
    PROVEN_SECONDS,
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


class Setup(Metrics):
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
        self.store = Place(client, self.container, "matrix/")
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
        assert not self.files._requests._requests
        assert not self.files._heads._requests


@pytest.fixture
def place(storage: Storage, account: Credentials) -> Iterator[Setup]:
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
    made = Setup(client, proxy, storage)
    yield made
    pytest_twisted.blockon(ensureDeferred(made.nothing_left()))
    pytest_twisted.blockon(ensureDeferred(client.close()))
    pytest_twisted.blockon(ensureDeferred(proxy.stop()))


async def test_from_memory(place: Setup) -> None:
    """The second request puts a file into memory, and the third asks nothing of Swift."""
    place.put(SMALL)
    for _ in range(4):
        assert await place.get() == SMALL
    assert place.requests() == ["GET", "GET"]
    assert place.told == {"miss": 2, "hit": 2}


async def test_each_request_has_its_own_download(place: Setup) -> None:
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


async def test_the_limit_in_bytes(place: Setup) -> None:
    """A file that does not fit is fetched each time."""
    place.files = place.limited_to(len(SMALL))
    place.put(SMALL)
    for _ in range(3):
        await place.get()
    assert place.requests() == ["GET"] * 3


async def test_large_files_pass_through(place: Setup) -> None:
    """A file that is not read whole is not kept."""
    place.put(LARGE)
    for _ in range(3):
        download = await place.begin()
        assert not isinstance(download, WholeDownload)
        download.abandon()
    assert place.requests() == ["GET"] * 3
    assert place.told == {}


async def test_a_file_that_swift_will_delete_is_not_kept(place: Setup) -> None:
    """An object with ``X-Delete-At`` ends without anybody's saying so."""
    place.put(SMALL, **{"X-Delete-After": "3600"})
    for _ in range(3):
        await place.get()
    assert place.requests() == ["GET"] * 3


# Requests at the same time


@pytest.mark.parametrize("limit", [0, 1 << 20])
async def test_requests_at_once(place: Setup, limit: int) -> None:
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


async def test_heads_at_once(place: Setup) -> None:
    """Requests for the facts share one HEAD, also if the first of them is cancelled."""
    place.put(LARGE)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [begin_for_caller(place.files.head, "name") for _ in range(20)]
    await stall.happened()
    requests[0].cancel()
    stall.release()
    with pytest.raises(CancelledError):
        await requests[0]
    facts = await gatherResults(requests[1:], consumeErrors=True)
    assert {info.size for info in facts} == {len(LARGE)}
    assert place.requests() == ["HEAD"]


async def test_heads_that_fail(place: Setup) -> None:
    """Each of the requests gets an error of its own."""
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [begin_for_caller(place.files.head, "name") for _ in range(3)]
    await stall.happened()
    stall.release()
    errors = []
    for request in requests:
        with pytest.raises(ObjectNotFoundError) as caught:
            await request
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 3
    assert place.requests() == ["HEAD"] * 2  # A 404 is believed only then.


async def test_head_that_hangs(place: Setup) -> None:
    """Nobody joins a HEAD that is older than five seconds, or waits longer for another's."""
    place.put(SMALL)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    first = begin_for_caller(place.files.head, "name")
    await stall.happened()
    second = begin_for_caller(place.files.head, "name")
    place.clock.advance(SHARE_SECONDS)
    assert (await second).size == len(SMALL)
    place.clock.advance(1)
    assert (await begin_for_caller(place.files.head, "name")).size == len(SMALL)
    stall.release()
    assert (await first).size == len(SMALL)
    assert place.requests() == ["HEAD"] * 3


async def test_head_before_an_upload(place: Setup) -> None:
    """Nobody joins a HEAD that began before the object was replaced or deleted."""
    place.put(SMALL)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    before = begin_for_caller(place.files.head, "name")
    await stall.happened()
    place.put(SMALL * 2)
    place.files.drop("name")
    assert (await begin_for_caller(place.files.head, "name")).size == 2 * len(SMALL)
    stall.release()
    assert (await before).size == len(SMALL)


async def test_large_file_at_once(place: Setup) -> None:
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


async def test_missing_at_once(place: Setup) -> None:
    """A 404 answers all that wait."""
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [place.begin() for _ in range(5)]
    await stall.happened()
    stall.release()
    errors = [await _error(request) for request in requests]
    assert {type(error) for error in errors} == {ObjectNotFoundError}
    assert place.requests() == ["GET"] * 2  # A 404 is believed only then.


async def test_clients_hang_up(place: Setup) -> None:
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


async def test_hanging_request(place: Setup) -> None:
    """A request without an answer delays those who share it by seconds: then they share a second
    one. What comes later does not share the first.
    """
    place.put(SMALL)
    place.proxy.add(stall := Stall(BEFORE_RESPONSE))
    requests = [place.begin() for _ in range(3)]
    await stall.happened()
    place.clock.advance(SHARE_SECONDS)
    assert [(await request).content for request in requests[1:]] == [SMALL, SMALL]
    assert place.requests() == ["GET"] * 2
    place.files.drop("name")
    place.clock.advance(1)
    assert await place.get() == SMALL
    assert not requests[0].called
    assert place.requests() == ["GET"] * 3
    stall.release()
    assert (await requests[0]).content == SMALL
    assert not place.clock.getDelayedCalls()


class SlowStore:
    """In place of :class:`Place`: requests that the test answers.

    :ivar asked: each request: its method, its progress, and what it is answered with.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Progress, Deferred[Any]]] = []

    async def get(self, path: str, *, progress: Progress) -> Any:
        return await self._ask("GET", progress)

    async def head(self, path: str, *, progress: Progress) -> Any:
        return await self._ask("HEAD", progress)

    async def _ask(self, method: str, progress: Progress) -> Any:
        answer: Deferred[Any] = Deferred()
        self.asked.append((method, progress, answer))
        return await answer

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]


class Slow:
    """Small files of a slow store, and a clock."""

    def __init__(self) -> None:
        self.store: Any = SlowStore()
        self.clock = Clock()
        metrics = Metrics("here", uuid4().hex)
        self.files = SmallFiles(self.store, 1 << 20, self.clock, metrics)

    def begin(self) -> Deferred[Download]:
        return begin_for_caller(self.files.get, "name")

    async def warm(self) -> None:
        """Have the file in memory, its proof too old."""
        for _ in range(2):
            begun = self.begin()
            self.store.asked.pop()[2].callback(small())
            await begun
        self.clock.advance(PROVEN_SECONDS + 1)


def small() -> WholeDownload:
    return WholeDownload(ObjectInfo("name", len(SMALL), "etag", "", ""), SMALL)


@pytest.mark.parametrize("kind", [ServerBusyError, DamagedError])
async def test_retries_are_shared(kind: type[SwiftError]) -> None:
    """While a request is retried, those who have joined it send none of their own."""
    slow = Slow()
    requests = [slow.begin() for _ in range(20)]
    ((_, progress, answer),) = slow.store.asked
    for _ in range(4):
        progress.attempt_begins()
        slow.clock.advance(SHARE_SECONDS - 1)
        progress.retry_waits(SwiftProviderError())
        slow.clock.advance(SHARE_SECONDS)
    assert slow.store.methods() == ["GET"]
    answer.errback(Target("GET", "media", "name").error(kind, "no"))
    assert {type(await _error(request)) for request in requests} == {kind}
    assert slow.store.methods() == ["GET"]
    assert not slow.clock.getDelayedCalls()


async def test_waiting_for_a_slot_is_shared() -> None:
    """A request that waits for a slot is joined, however old it is, and nobody leaves it."""
    slow = Slow()
    requests = [slow.begin() for _ in range(3)]
    slow.clock.advance(10 * SHARE_SECONDS)
    requests += [slow.begin() for _ in range(3)]
    slow.clock.advance(10 * SHARE_SECONDS)
    ((_, _, answer),) = slow.store.asked
    answer.callback(small())
    assert {(await request).content for request in requests} == {SMALL}
    assert not slow.clock.getDelayedCalls()


async def test_many_leave_a_hanging_request() -> None:
    """They share one more request, and wait for it to its end."""
    slow = Slow()
    requests = [slow.begin() for _ in range(20)]
    slow.store.asked[0][1].attempt_begins()
    slow.clock.advance(SHARE_SECONDS)
    assert slow.store.methods() == ["GET"] * 2
    slow.store.asked[1][1].attempt_begins()
    slow.clock.advance(SHARE_SECONDS)
    assert slow.store.methods() == ["GET"] * 2
    for _, _, answer in slow.store.asked:
        answer.callback(small())
    assert {(await request).content for request in requests} == {SMALL}
    assert not slow.clock.getDelayedCalls()


async def test_head_waits_for_a_slot() -> None:
    """A busy process is no outage: a deleted file is not served because of that."""
    slow = Slow()
    await slow.warm()
    request = slow.begin()
    slow.clock.advance(10 * HEAD_SECONDS)
    assert not request.called
    ((method, progress, answer),) = slow.store.asked
    progress.attempt_begins()
    slow.clock.advance(HEAD_SECONDS / 2)
    answer.errback(Target(method, "media", "name").error(ObjectNotFoundError, "no"))
    assert isinstance(await _error(request), ObjectNotFoundError)
    assert not slow.clock.getDelayedCalls()


async def test_head_gets_no_slot() -> None:
    """Nor is the file served if no slot becomes free: Swift was not asked."""
    slow = Slow()
    await slow.warm()
    request = slow.begin()
    ((method, _, answer),) = slow.store.asked
    answer.errback(Target(method, "media", "name").error(TimedOutError, "no slot"))
    assert isinstance(await _error(request), TimedOutError)


async def test_time_limit_of_the_head() -> None:
    """It begins with the first attempt, and has the retries in it."""
    slow = Slow()
    await slow.warm()
    request = slow.begin()
    slow.clock.advance(HEAD_SECONDS - 1)
    progress = slow.store.asked[0][1]
    progress.attempt_begins()
    slow.clock.advance(HEAD_SECONDS / 2)
    progress.retry_waits(SwiftProviderError())
    assert not request.called
    slow.clock.advance(HEAD_SECONDS / 2)
    assert (await request).content == SMALL
    assert slow.store.methods() == ["HEAD"]


# Deletions


async def test_deletion(place: Setup) -> None:
    """A file that is dropped is asked for again."""
    await place.warm()
    place.delete()
    assert await place.get() == SMALL
    place.files.drop("name")
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)


async def test_deletion_during_a_get(place: Setup) -> None:
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


async def test_replaced(place: Setup) -> None:
    """A thumbnail that is made again may have other bytes: its upload drops the old ones."""
    await place.warm()
    place.put(b"made again")
    place.files.drop("name")
    for _ in range(3):
        assert await place.get() == b"made again"


# Proofs


async def test_proof(place: Setup) -> None:
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


async def test_proof_of_a_deletion(place: Setup) -> None:
    """If another worker has deleted the object, the file is missing after an hour at the latest."""
    await place.warm()
    place.delete()
    place.clock.advance(PROVEN_SECONDS + 1)
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)
    place.proxy.add(Answer(**OUTAGE))
    assert isinstance(await _error(place.begin()), ServerBusyError), "the file was dropped"


@pytest.mark.parametrize("other", [b"other", bytes(len(SMALL))])
async def test_proof_of_a_change(place: Setup, other: bytes) -> None:
    """If the object is another one, its bytes are fetched."""
    await place.warm()
    place.put(other)
    place.clock.advance(PROVEN_SECONDS + 1)
    assert await place.get() == other
    assert place.requests() == ["HEAD", "GET"]


async def test_clock_is_set_back(place: Setup) -> None:
    """A file is not believed any longer because the system's clock was wrong."""
    place.clock.advance(1_000_000)
    await place.warm()
    place.clock.rightNow -= 500_000
    place.delete()
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)


async def test_clock_is_set_back_in_an_outage(place: Setup) -> None:
    """The pause between two HEADs does not last until the clock is where it was."""
    await place.warm()
    place.proxy.add(Answer(**OUTAGE))
    place.clock.advance(PROVEN_SECONDS + 1)
    assert await place.get() == SMALL
    place.clock.rightNow -= 36_000
    place.proxy.clear()
    for _ in range(2):
        assert await place.get() == SMALL
    place.proxy.requests.clear()
    place.clock.advance(PROVEN_SECONDS + 1)
    assert await place.get() == SMALL
    assert place.requests() == ["HEAD"]


async def test_swift_is_unreachable(place: Setup, caplog: pytest.LogCaptureFixture) -> None:
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


async def test_proof_is_a_day_old(place: Setup) -> None:
    """A file whose proof becomes a day old during an outage is not served any longer."""
    await place.warm()
    place.proxy.add(Answer(**OUTAGE))
    place.clock.advance(UNREACHABLE_SECONDS - 1)
    assert await place.get() == SMALL
    place.clock.advance(2)
    assert isinstance(await _error(place.begin()), ServerBusyError)


async def test_swift_is_back(place: Setup) -> None:
    """After an outage the next HEAD finds a deletion."""
    await place.warm()
    place.proxy.add(Answer(**OUTAGE))
    place.clock.advance(PROVEN_SECONDS + 1)
    assert await place.get() == SMALL
    place.proxy.clear()
    place.delete()
    place.clock.advance(PAUSE_SECONDS)
    assert isinstance(await _error(place.begin()), ObjectNotFoundError)


async def test_swift_does_not_answer(place: Setup) -> None:
    """A HEAD without an answer delays the file by seconds, and releases its slot."""
    await place.warm()
    place.proxy.add(stall := Stall(ON_REQUEST))
    place.clock.advance(PROVEN_SECONDS + 1)
    request = place.begin()
    await stall.happened()
    assert not request.called
    place.clock.advance(HEAD_SECONDS)
    assert isinstance(await request, WholeDownload)


async def test_swift_refuses(place: Setup) -> None:
    """A 403 is no outage: the error is shown, and the file is not served."""
    await place.warm()
    place.proxy.add(Answer(403))
    place.clock.advance(PROVEN_SECONDS + 1)
    assert isinstance(await _error(place.begin()), AccessDeniedError)
    assert await place.get() == SMALL
    assert place.requests() == ["HEAD", "HEAD"]


async def test_client_hangs_up_during_a_head(place: Setup) -> None:
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
