"""A file that arrives faster than the disk takes it, or on a disk that fails."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from swift_provider.offload.arriving_file import BATCH_BYTES, ArrivingFile, open_arriving
from swift_provider.offload.disk import Expected
from swift_provider.offload.job_threads import JobThreads
from swift_provider.offload.new_file import MediaStore, NewFile
from tests.offload.synapse_store import SynapseStore

CHUNK = 65_536
NAME = "local_content/ab/cd/ef"


@implementer(IPushProducer)
class Source:
    """Writes chunks until it is paused, and goes on when it is resumed."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.left = list(chunks)
        self.pauses = 0
        self.done: Deferred[None] = Deferred()
        self._paused = False
        self._consumer: ArrivingFile | None = None

    def begin(self, consumer: ArrivingFile) -> None:
        self._consumer = consumer
        consumer.registerProducer(self, True)
        self._flow()

    def _flow(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        try:
            while self.left and not self._paused:
                consumer.write(self.left.pop(0))
        except OSError as error:
            self._end(error)
            return
        if not self._paused:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        assert self._consumer is not None
        self._consumer.unregisterProducer()
        self._consumer = None
        if error is None:
            self.done.callback(None)
        else:
            self.done.errback(error)

    def pauseProducing(self) -> None:
        self.pauses += 1
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._flow()

    def stopProducing(self) -> None:
        """Not used by a file."""


class Disk:
    """Lets writes wait until it is released, and fails them if it is told so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on = threading.Event()
        self.error: OSError | None = None
        self.closed_in_a_write = False
        self._in_a_write = False
        write, close = NewFile.write, NewFile.close

        def slow_write(new: NewFile, data: bytes) -> None:
            self._in_a_write = True
            self.goes_on.wait(30)
            try:
                if self.error is not None:
                    raise self.error
                write(new, data)
            finally:
                self._in_a_write = False

        def watched_close(new: NewFile) -> None:
            self.closed_in_a_write |= self._in_a_write
            close(new)

        monkeypatch.setattr(NewFile, "write", slow_write)
        monkeypatch.setattr(NewFile, "close", watched_close)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.goes_on.set()


@pytest.fixture
def threads() -> Iterator[JobThreads]:
    made = JobThreads(reactor)
    yield made
    made.stop()


async def _open(threads: JobThreads, store: SynapseStore, size: int) -> ArrivingFile:
    return await open_arriving(
        threads, MediaStore(str(store.base)), Expected(NAME, frozenset([size]))
    )


async def _soon(seconds: float = 0.05) -> None:
    await deferLater(reactor, seconds)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [0, 1, CHUNK, BATCH_BYTES, 40 * CHUNK + 1])
async def test_all_bytes_in_order(threads: JobThreads, store: SynapseStore, size: int) -> None:
    content = os.urandom(size)
    source = Source([content[at : at + CHUNK] for at in range(0, size, CHUNK)])
    file = await _open(threads, store, size)
    source.begin(file)
    await source.done
    await file.flush()
    assert file.size == size
    assert await file.keep(keep_bad=False) is None
    await file.close()
    assert store.files() == {NAME}
    assert (store.base / NAME).read_bytes() == content


@pytest_twisted.ensureDeferred
async def test_a_slow_disk_pauses_the_download(
    threads: JobThreads, store: SynapseStore, disk: Disk
) -> None:
    """Memory holds two batches at most, and everything comes to the disk later."""
    size = 40 * CHUNK
    source = Source([bytes([number]) * CHUNK for number in range(40)])
    file = await _open(threads, store, size)
    source.begin(file)
    await _soon()
    assert source.pauses == 1
    assert (40 - len(source.left)) * CHUNK == 2 * BATCH_BYTES
    disk.goes_on.set()
    await source.done
    await file.flush()
    await file.keep(keep_bad=False)
    await file.close()
    assert (store.base / NAME).read_bytes() == b"".join(
        bytes([number]) * CHUNK for number in range(40)
    )


@pytest_twisted.ensureDeferred
async def test_a_failed_write_ends_the_download(
    threads: JobThreads, store: SynapseStore, disk: Disk
) -> None:
    """It reaches the producer although that is paused, and no part of the file stays."""
    source = Source([bytes(CHUNK)] * 40)
    file = await _open(threads, store, 40 * CHUNK)
    source.begin(file)
    await _soon()
    assert source.pauses == 1
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    disk.goes_on.set()
    with pytest.raises(OSError, match="No space"):
        await source.done
    with pytest.raises(OSError, match="No space"):
        await file.flush()
    await file.close()
    assert store.files() == set()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("count", [1, 5])
async def test_the_last_write_fails(
    threads: JobThreads, store: SynapseStore, disk: Disk, count: int
) -> None:
    """When no byte comes any more, ``flush`` says so: a file with a hole is never kept."""
    source = Source([bytes(CHUNK)] * count)
    file = await _open(threads, store, count * CHUNK)
    source.begin(file)
    await source.done
    disk.error = OSError(errno.EIO, "Input/output error")
    disk.goes_on.set()
    with pytest.raises(OSError, match="Input/output"):
        await file.flush()
    await file.close()
    assert store.files() == set()


@pytest_twisted.ensureDeferred
async def test_it_is_not_closed_in_the_middle_of_a_write(
    threads: JobThreads, store: SynapseStore, disk: Disk
) -> None:
    """As when Swift fails while the disk is slow."""
    source = Source([bytes(CHUNK)] * 5)
    file = await _open(threads, store, 40 * CHUNK)
    source.begin(file)
    await source.done
    closing = ensureDeferred(file.close())
    await _soon()
    assert not closing.called
    disk.goes_on.set()
    await closing
    assert not disk.closed_in_a_write
    assert store.files() == set()
