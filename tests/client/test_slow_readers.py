"""Readers that are slow, but never silent, do not keep everybody else out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from swift_provider.client import Observer, Place, SwiftClient
from tests.client.conftest import Faulty, Sink
from tests.client.trouble import LONG_PATIENCE, MakeFile, begin, content_of, soon

SIZE = 6_000_000


class SlowSink(Sink):
    """Takes one chunk, then pauses for a while; again and again."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.on_write = self._pause
        self._timer: Any = None

    def _pause(self) -> None:
        assert self.producer is not None
        self.producer.pauseProducing()
        self._timer = reactor.callLater(self._seconds, self._resume)

    def _resume(self) -> None:
        self._timer = None
        if self.producer is not None:
            self.producer.resumeProducing()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def test_all_slots_are_held_by_slow_readers(
    make_client: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """A reader that takes a chunk every second lets another download begin at once, and
    gets its own bytes in the end.
    """
    client = make_client(threadpool_size=2, patience=LONG_PATIENCE)
    store = Place(client, container)
    await store.put("large", make_file(content_of(SIZE)))
    await store.put("small", make_file(b"content"))
    sinks = [SlowSink(1.0) for _ in range(2)]
    downloads = [await store.get("large") for _ in sinks]
    slow = [download.deliver(sink) for download, sink in zip(downloads, sinks, strict=True)]
    assert client.slots.in_flight == 2
    began = reactor.seconds()
    for _ in range(3):
        download = await soon(begin(store.get("small")))
        await soon(download.deliver(Sink()))
    assert reactor.seconds() - began < 5 * 3, "each waited for a pause of five seconds"
    for sink in sinks:
        sink.on_write = lambda: None
    for done in slow:
        await soon(done)
    assert [sink.content == content_of(SIZE) for sink in sinks] == [True, True]


async def test_short_pauses_cost_no_request(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """A client on a fast line makes its download pause for milliseconds: it keeps its slot,
    although others wait.
    """
    client = faulty.client(threadpool_size=1, patience=LONG_PATIENCE)
    store = Place(client, container)
    await store.put("large", make_file(content_of(SIZE)))
    sink = SlowSink(0.01)
    download = await store.get("large")
    done = download.deliver(sink)
    waiting = begin(store.head("large"))
    gets = [one for one in faulty.proxy.requests if one.method == "GET"]
    await soon(done)
    await soon(waiting)
    assert sink.content == content_of(SIZE)
    assert [one for one in faulty.proxy.requests if one.method == "GET"] == gets


async def test_the_gauge_shows_who_waits(
    make_client: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """Those that wait for a slot are counted from the beginning, not when they got it."""
    told: list[tuple[int, int]] = []
    observer = Observer()
    observer.slots_changed = lambda *numbers: told.append(numbers)  # type: ignore[method-assign]
    client = make_client(threadpool_size=1, patience=LONG_PATIENCE, observer=observer)
    store = Place(client, container)
    await store.put("large", make_file(content_of(SIZE)))
    download = await store.get("large")
    waiting = [begin(store.head("large")) for _ in range(18)]
    assert told[-1] == (1, 18)
    leaving = waiting.pop()
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    leaving.cancel()
    assert told[-1] == (1, 17)
    download.abandon()
    for one in waiting:
        await soon(one)
    assert told[-1] == (0, 0)
