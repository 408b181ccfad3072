"""Work in one thread pool does not wait for work in another."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from swift_provider.client import FileSource, Patience, Place
from swift_provider.client.threads import THREADS, Threads
from swift_provider.client.upload_bodies import AT_ONCE_BYTES
from swift_provider.errors import TimedOutError
from tests.client.conftest import Faulty, PutObject
from tests.client.trouble import HUGE, LARGE, MakeFile, begin, content_of, puts, soon, until
from tests.servers.faults import Answer, Stall, in_request


class GatedSource(FileSource):
    """A file that cannot be read before the gate is open.

    :ivar gated: only threads whose names contain this wait for the gate.
    :ivar reading: an entry for each of these threads that reads, or waits for the gate.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        super().__init__(descriptor, path)
        self.gate = threading.Event()
        self.gated = ""
        self.reading: list[str] = []

    def read_at(self, offset: int, length: int) -> bytes:
        name = threading.current_thread().name
        if self.gated in name:
            self.reading.append(name)
            assert self.gate.wait(60)
        return super().read_at(offset, length)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[GatedSource]:
    """A file that is read in threads, its gate shut."""
    (tmp_path / "gated").write_bytes(content_of(LARGE))
    with GatedSource.open(tmp_path / "gated") as source:
        yield source


class Blocked:
    """Operations that wait for the gate, in all threads of one pool."""

    def __init__(self, source: GatedSource) -> None:
        self._source = source
        self._operations: list[Deferred[Any]] = []

    async def add(self, operation: Callable[[], Any]) -> None:
        """Begin more operations than the pool has threads."""
        self._operations += [begin(operation()) for _ in range(THREADS + 1)]
        await until(lambda: len(self._source.reading) >= THREADS)

    async def end(self) -> None:
        self._source.gate.set()
        for operation in self._operations:
            await soon(operation)


@pytest_twisted.async_yield_fixture
async def blocked(gated: GatedSource) -> AsyncIterator[Blocked]:
    blocked = Blocked(gated)
    yield blocked
    await blocked.end()


async def block_hashing(blocked: Blocked, gated: GatedSource, store: Place) -> None:
    """Fill all threads that hash whole files."""
    info = await store.head("object")
    await blocked.add(lambda: store.same_content(info, gated))


async def test_an_upload_does_not_wait_for_hashing(
    store: Place, put_object: PutObject, make_file: MakeFile, gated: GatedSource, blocked: Blocked
) -> None:
    """A large file is read and sent while all hashing threads are blocked."""
    assert LARGE > AT_ONCE_BYTES
    await put_object(content_of(LARGE))
    await block_hashing(blocked, gated, store)
    await soon(begin(store.put("other", make_file(content_of(LARGE)))))
    assert len(gated.reading) == THREADS


async def test_a_disk_that_hangs(faulty: Faulty, container: str, gated: GatedSource) -> None:
    """An upload whose file cannot be read within the time for the whole upload fails."""
    short = Patience(
        total_seconds=1,
        first_delay=0.1,
        longest_delay=0.1,
        operation_seconds=0.5,
        slowest_bytes_per_second=10**9,
    )
    store = faulty.store(container, patience=short, connect_timeout=0.5, response_timeout=0.5)
    try:
        with pytest.raises(TimedOutError, match="not done within"):
            await soon(begin(store.put("name", gated)))
        assert puts(faulty) == []
    finally:
        gated.gate.set()


async def test_an_upload_in_flight_does_not_wait_for_those_that_begin(
    faulty: Faulty, container: str, make_file: MakeFile, gated: GatedSource, blocked: Blocked
) -> None:
    """A file that is being sent is read on while the files of later uploads are read for
    their CRC-32.
    """
    store = faulty.store(container)
    faulty.proxy.add(stall := Stall(in_request(100_000), match=("PUT", "/first$")))
    first = begin(store.put("first", make_file(content_of(HUGE))))
    await soon(stall.happened())
    gated.gated = "swift-crc32"
    names = iter("abcdefgh")
    await blocked.add(lambda: store.put(next(names), gated))
    stall.release()
    await soon(first)
    assert len(gated.reading) == THREADS
    assert len(puts(faulty)) == 1


async def test_a_sign_in_does_not_wait_for_hashing(
    faulty: Faulty, container: str, put_object: PutObject, gated: GatedSource, blocked: Blocked
) -> None:
    """A rejected token is replaced while all hashing threads are blocked."""
    await put_object(content_of(LARGE))
    store = faulty.store(container)
    await block_hashing(blocked, gated, store)
    faulty.proxy.add(Answer(401))
    await soon(begin(store.check()))
    assert len(gated.reading) == THREADS
    assert_two_tokens(faulty)


async def test_a_sign_in_does_not_wait_for_reading(
    faulty: Faulty, container: str, gated: GatedSource, blocked: Blocked
) -> None:
    """A rejected token is replaced while all reading threads are blocked by uploads."""
    store = faulty.store(container)
    await store.check()
    gated.gated = "swift-read"
    names = iter("abcdefgh")
    await blocked.add(lambda: store.put(next(names), gated))
    await until(lambda: len(puts(faulty)) == THREADS + 1)
    faulty.proxy.add(Answer(401))
    await soon(begin(store.check()))
    assert len(gated.reading) == THREADS
    assert_two_tokens(faulty)


def assert_two_tokens(faulty: Faulty) -> None:
    """The last request was sent with another token than the one before it."""
    first, second = faulty.proxy.requests[-2:]
    assert (first.status, second.status) == (401, 204)
    assert first.headers["x-auth-token"] != second.headers["x-auth-token"]


# One pool


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(reactor, "tests")
    yield threads
    threads.stop()


async def test_a_function_runs_in_a_thread_of_that_name(threads: Threads) -> None:
    """The result comes on the reactor's thread, from a daemon thread."""
    thread = await soon(threads.run(threading.current_thread))
    assert thread is not threading.current_thread()
    assert "tests" in thread.name
    assert thread.daemon


async def test_a_function_that_raises(threads: Threads) -> None:
    """What the function raises is the error of its Deferred."""
    with pytest.raises(ZeroDivisionError):
        await soon(threads.run(lambda: 1 / 0))


async def test_threads_can_be_stopped_twice_and_used_again(threads: Threads) -> None:
    """Stopping ends the threads; the next task starts new ones."""
    first = await soon(threads.run(threading.current_thread))
    threads.stop()
    threads.stop()
    await until(lambda: not first.is_alive())
    second = await soon(threads.run(threading.current_thread))
    assert second.is_alive()
