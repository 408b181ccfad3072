"""Uploads that Synapse does not wait for, while Swift does not answer."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from prometheus_client import REGISTRY
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from swift_provider.client import FileSource
from swift_provider.errors import FileChangedError
from swift_provider.module import upload_queue
from swift_provider.module.metrics import Metrics
from swift_provider.module.upload_queue import MAX_HELD, UploadQueue, WaitingFile
from tests.client.trouble import until
from tests.module.conftest import MakeEntry, Servers
from tests.module.homeservers import FORBIDDEN, Homeserver, media_path, there
from tests.module.storage import Storage
from tests.servers.faults import ON_REQUEST, Stall
from tests.servers.tls import make_ca


class Reactor(Clock):
    """A clock with the other way to wait for the next turn."""

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.callLater(0, function, *arguments)


class Place:
    """A queue of which two uploads run at once; an upload ends when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Reactor()
        self.running: dict[str, Deferred[None]] = {}
        self.labels = {"server_name": "here", "container": uuid4().hex}
        self.drops = 0
        self.queue = UploadQueue(
            self.clock,
            2,
            self._upload,
            Metrics(**self.labels),
            "Do something.",
            self._note_drop,
        )

    def _upload(self, path: str, file: WaitingFile) -> Deferred[None]:
        file.open().close()
        self.running[path] = Deferred()
        return self.running[path]

    def _note_drop(self) -> None:
        self.drops += 1

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.write_bytes(b"media")
        return path

    def add(self, *names: str) -> None:
        for name in names:
            self.queue.add(name, WaitingFile(str(self.file(name))))

    def end(self, name: str) -> None:
        self.running.pop(name).callback(None)
        self.clock.advance(0)

    def metric(self, name: str) -> float | None:
        return REGISTRY.get_sample_value(f"synapse_swift_uploads_{name}", self.labels)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_order_and_width(place: Place) -> None:
    """So many uploads as the width run; the others follow, the oldest first."""
    place.add("a", "b", "c", "d")
    assert (list(place.running), place.queue.waiting) == (["a", "b"], ["c", "d"])
    assert place.metric("waiting") == 2
    place.end("b")
    assert (list(place.running), place.queue.waiting) == (["a", "c"], ["d"])
    place.queue.discard("d")
    place.end("a")
    assert (list(place.running), place.queue.waiting) == (["c"], [])
    assert place.metric("waiting") == 0


def test_uploads_that_end_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many uploads that fail at once do not run in one turn of the reactor."""
    begun: list[str] = []
    due: list[Callable[[], None]] = []

    def fail(path: str, file: WaitingFile) -> Deferred[None]:
        begun.append(path)
        return succeed(None)

    place.add("a", "b", *(f"more{number}" for number in range(100)))
    monkeypatch.setattr(place.queue, "_upload", fail)
    monkeypatch.setattr(place.clock, "callFromThread", due.append)
    place.running["a"].callback(None)
    place.running["b"].callback(None)
    for turn in range(50):
        assert len(begun) == turn * 2
        due.pop()()
        assert len(due) <= 1
    assert len(begun) == 100
    assert place.metric("waiting") == 0


def test_a_homeserver_that_was_shut_down(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If uploads cannot begin any more, those that wait are closed, counted and named."""
    place.add("a", "b")
    held = [FileSource.open(place.file(name)) for name in ("c", "d")]
    for source, name in zip(held, ("c", "d"), strict=True):
        place.queue.add(name, WaitingFile(name, source))

    def refuse(path: str, file: WaitingFile) -> Deferred[None]:
        raise RuntimeError("HomeServer has been shutdown")

    monkeypatch.setattr(place.queue, "_upload", refuse)
    with caplog.at_level(logging.WARNING):
        place.end("a")
    assert "HomeServer has been shutdown" in caplog.messages[0]
    assert "2 files (c, d). Do something." in caplog.messages[1]
    assert (place.queue.waiting, place.metric("waiting")) == ([], 0)
    assert place.metric("dropped_total") == place.drops == 2
    for source in held:
        with pytest.raises((OSError, ValueError)):
            source.read_at(0, 1)
    place.end("b")
    place.add("e")
    assert place.queue.is_full(1)
    assert place.queue.waiting == []


async def test_the_next_upload_begins_though_the_clock_was_set_back(tmp_path: Path) -> None:
    """The queue goes on in the next turn of the reactor, whatever its clock shows."""
    from twisted.internet import reactor

    begun: list[str] = []
    first: Deferred[None] = Deferred()

    def upload(path: str, file: WaitingFile) -> Deferred[None]:
        begun.append(path)
        return first if path == "a" else succeed(None)

    labels = {"server_name": "here", "container": uuid4().hex}
    queue = UploadQueue(reactor, 1, upload, Metrics(**labels), "", lambda: None)
    (tmp_path / "file").write_bytes(b"media")
    for name in ("a", "b"):
        queue.add(name, WaitingFile(str(tmp_path / "file")))
    steps_back(reactor, 3600, lambda: first.callback(None))
    await until(lambda: begun == ["a", "b"])


def steps_back(reactor: Any, seconds: float, just_before: Callable[[], None]) -> None:
    """Do something just before the reactor's clock is set back: its clock is fast meanwhile."""
    real = reactor.seconds
    reactor.seconds = lambda: real() + seconds
    try:
        just_before()
    finally:
        reactor.seconds = real


def test_full(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Uploads that do not fit are counted, and named in at most one line in a minute."""
    monkeypatch.setattr(upload_queue, "MAX_WAITING", 2)
    place.add("a", "b", "c", "d")
    with caplog.at_level(logging.WARNING):
        place.add(*(f"more{number}" for number in range(100)))
        assert len(caplog.messages) == 1
        assert "Not stored: 1 file (more0). Do something." in caplog.messages[0]
        place.clock.advance(60)
        assert "99 files (more1, " in caplog.messages[1]
        assert "more10, …)" in caplog.messages[1]
        place.clock.advance(60)
        place.clock.advance(60)
        assert len(caplog.messages) == 2
        assert not place.clock.getDelayedCalls()
        place.add("last")
        place.add("very last")
        place.queue.stop(place.queue.waiting)
    assert [message.split(". Do")[0] for message in caplog.messages[2:]] == [
        "Too many uploads wait for Swift (4). Not stored: 1 file (last)",
        "Too many uploads wait for Swift (4). Not stored: 1 file (very last)",
        "Synapse stops before these files are uploaded to Swift: 2 files (c, d)",
    ]
    assert place.metric("dropped_total") == place.drops == 102
    assert place.queue.waiting == ["c", "d"]


def test_same_path_twice(place: Place) -> None:
    """A file that Synapse writes again while it waits is uploaded once, as it is then."""
    place.add("a", "b", "c")
    place.file("c").write_bytes(b"longer media")
    place.queue.add("c", WaitingFile(str(place.folder / "c")))
    assert place.queue.waiting == ["c"]
    place.end("a")
    assert "c" in place.running


def test_same_path_while_it_runs(place: Place) -> None:
    """The second upload of a path begins when the first has ended; others go before it."""
    place.add("a")
    first = place.running["a"]
    place.add("a", "b")
    assert (list(place.running), place.queue.waiting) == (["a", "b"], ["a"])
    assert place.running["a"] is first
    place.end("a")
    assert (sorted(place.running), place.queue.waiting) == (["a", "b"], [])


def test_a_file_that_comes_after_the_stop(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused where that is possible, and named where it is not."""
    assert not place.queue.is_full(500)
    place.queue.stop([])
    assert place.queue.is_full(500)
    place.add("late")
    assert (place.running, place.queue.waiting) == ({}, [])
    assert "Not stored: 1 file (late). Do something." in caplog.text
    assert place.metric("dropped_total") == place.drops == 1


def test_waiting_file(place: Place) -> None:
    """A path holds no descriptor; a file of another size is not uploaded, and one that is gone."""
    path = place.file("a")
    before = len(os.listdir("/proc/self/fd"))
    waiting = WaitingFile(str(path))
    assert len(os.listdir("/proc/self/fd")) == before
    path.unlink()
    with pytest.raises(FileNotFoundError):
        waiting.open()
    place.file("a")  # another inode, the same bytes: Synapse has pulled it back
    waiting.open().close()
    path.write_bytes(b"me")
    with pytest.raises(FileChangedError, match="5 bytes before, 2 bytes now"):
        waiting.open()
    assert len(os.listdir("/proc/self/fd")) == before
    for wrong, error in ((place.folder, "not a regular"), (place.folder / "none", "No such")):
        with pytest.raises(OSError, match=error):
            WaitingFile(str(wrong))


@contextlib.contextmanager
def _homeserver(folder: Path, entry: dict[str, Any], **config: object) -> Iterator[Homeserver]:
    server = Homeserver(
        folder / "synapse",
        make_ca(folder / "ca"),
        media_storage_providers=[entry],
        config=config,
    )
    try:
        yield server
    finally:
        server.stop()


def _upload_all(server: Homeserver, count: int) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(server.user.upload, [b"%d" % number for number in range(count)]))


async def test_uploads_wait_without_descriptors(
    tmp_path: Path, entry: MakeEntry, storage: Storage, both: Servers
) -> None:
    """While Swift does not answer, few uploads are open; all end when it does.

    An upload still waiting when Synapse stops is named.
    """
    container = f"{uuid4().hex[:8]}-queue"
    options = entry(
        container, waits=False, threadpool_size=4, storage_url=both.proxy.url_for(storage.url)
    )
    stall = Stall(ON_REQUEST, match=("PUT", f"{container}/"), times=None)
    with _homeserver(tmp_path, options) as server:
        await there(server.start)
        await there(server.wait_for_containers, 1)
        both.proxy.add(stall)
        uris = await there(_upload_all, server, 60)
        await stall.happened()
        assert 1 <= len(_open_media(server)) <= 4
        assert _sample(server, "uploads_waiting") == 56
        assert _sample(server, "uploads_dropped_total") == 0
        both.proxy.clear()
        stall.release()
        for uri in uris:
            await there(storage.wait_for, container, media_path(uri))
        assert _sample(server, "uploads_waiting") == 0
        again = Stall(ON_REQUEST, match=("PUT", f"{container}/"), times=None)
        both.proxy.add(again)
        await there(_upload_all, server, 20)
        await again.happened()
        await there(server.stop)
        log = server.log.read_text()
        (line,) = [line for line in log.splitlines() if "Synapse stops before" in line]
        assert "20 files (local_content/" in line
        assert "…). Run swift_media_upload upload --all" in line
        assert not FORBIDDEN.search(log)
    both.proxy.clear()


async def test_uploads_are_refused_without_local_media(
    tmp_path: Path, entry: MakeEntry, storage: Storage, both: Servers
) -> None:
    """Where each waiting upload holds a descriptor, the client gets 503 when too many wait."""
    if not both.keeps_no_local:
        return  # this Synapse always has a media store
    container = f"{uuid4().hex[:8]}-held"
    options = entry(container, waits=False, storage_url=both.proxy.url_for(storage.url))
    stall = Stall(ON_REQUEST, match=("PUT", f"{container}/"), times=None)
    with _homeserver(tmp_path, options, enable_local_media_storage=False) as server:
        await there(server.start)
        await there(server.wait_for_containers, 1)
        both.proxy.add(stall)
        uris = await there(_upload_all, server, MAX_HELD)
        for _ in range(3):
            with pytest.raises(requests.HTTPError, match="HTTP 503"):
                await there(server.user.upload, b"one too many")
        (line,) = [line for line in server.new_log() if "Too many uploads wait" in line]
        assert " POST-" in line
        assert _sample(server, "uploads_dropped_total") == 3
        both.proxy.clear()
        stall.release()
        for uri in uris[::50]:
            await there(storage.wait_for, container, media_path(uri))
        assert not FORBIDDEN.search(server.log.read_text())


def _sample(server: Homeserver, name: str) -> float:
    (value,) = [
        value
        for sample, value in server.metrics().items()
        if sample.startswith(f"synapse_swift_{name}{{")
    ]
    return value


def _open_media(server: Homeserver) -> list[str]:
    """The media that Synapse has open."""
    links = [f"/proc/{server.pid}/fd/{number}" for number in os.listdir(f"/proc/{server.pid}/fd")]
    names = [os.readlink(link) for link in links if os.path.lexists(link)]
    return [name for name in names if name.startswith(str(server.media_store))]
