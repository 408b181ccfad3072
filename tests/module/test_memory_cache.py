"""Which files are kept in memory, and for how many bytes."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import OrderedDict
from uuid import uuid4

import pytest

from swift_provider.client import ObjectInfo, WholeDownload
from swift_provider.module import memory_cache
from swift_provider.module.memory_cache import AGAIN_SECONDS, MemoryCache
from swift_provider.module.metrics import Metrics


class Memory(Metrics):
    """A cache, and what it tells the metrics."""

    def __init__(self, limit: int) -> None:
        super().__init__("here", uuid4().hex)
        self.limit = limit
        self.bytes = self.files = 0
        self.cache = MemoryCache(limit, self)

    def memory_changed(self, size: int, files: int) -> None:
        self.bytes, self.files = size, files

    def offer(
        self, path: str, content: bytes = b"x", now: float = 0.0, again: bool = False
    ) -> None:
        self.cache.offer(path, download(path, content), now, again)

    def keep(self, path: str, content: bytes = b"x") -> None:
        self.offer(path, content, again=True)


def download(path: str, content: bytes) -> WholeDownload:
    return WholeDownload(
        ObjectInfo(
            name=f"matrix/{path}",
            size=len(content),
            etag=uuid4().hex,
            content_type="".join(["application/", "octet-stream"]),
            last_modified="".join(["Fri, 27 Nov 2026 05:11:27 ", "GMT"]),
            owner="".join(["matrix.", "example.org"]),
        ),
        content,
    )


def test_second_request() -> None:
    """A file is admitted when it is asked for the second time, and has its bytes then."""
    memory = Memory(100_000)
    memory.offer("a", b"one")
    assert memory.cache.get("a") is None
    memory.offer("a", b"one")
    file = memory.cache.get("a")
    assert file is not None
    assert (file.content, file.download().content) == (b"one", b"one")
    assert memory.files == 1
    assert memory.bytes > 3


def test_several_at_once() -> None:
    """A request that several coroutines wait for counts as a second one."""
    memory = Memory(100_000)
    memory.offer("a", again=True)
    assert memory.cache.get("a") is not None


@pytest.mark.parametrize(("later", "kept"), [(AGAIN_SECONDS, True), (AGAIN_SECONDS + 1, False)])
def test_second_request_after_a_while(later: float, kept: bool) -> None:
    """A first request is forgotten after an hour."""
    memory = Memory(100_000)
    memory.offer("a", now=5.0)
    memory.offer("a", now=5.0 + later)
    assert (memory.cache.get("a") is not None) == kept


def test_crawler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of files that are asked for once push out nothing, and take no memory."""
    monkeypatch.setattr(memory_cache, "MAX_FIRST_REQUESTS", 100)
    memory = Memory(100_000)
    memory.keep("wanted")
    content = download("crawled", b"x")
    for number in range(1000):
        memory.cache.offer(f"crawled{number}", content, 0.0)
    gc.collect()
    tracemalloc.start()
    for number in range(1000, 3000):
        memory.cache.offer(f"crawled{number}", content, 0.0)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 50_000, "2000 records would take 360,000 bytes"
    assert memory.cache.get("wanted") is not None
    assert memory.files == 1
    memory.offer("crawled2999")
    memory.offer("crawled2800")
    assert memory.cache.get("crawled2999") is not None
    assert memory.cache.get("crawled2800") is None, "only the last 100 requests are remembered"


def test_nothing_is_kept() -> None:
    """Without memory nothing is kept, and no request is remembered."""
    memory = Memory(0)
    memory.keep("a")
    memory.offer("a")
    assert memory.cache.get("a") is None
    assert not memory.cache._first_requests


@pytest.mark.parametrize("size", [1, 1000, 60_000])
def test_real_memory(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files take no more memory than is counted, and not much less than the limit."""
    monkeypatch.setattr(memory_cache, "MAX_FIRST_REQUESTS", 0)
    memory = Memory(4 << 20)
    memory.keep("first")
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(5_000_000 // (size + 1000) + 20):
        memory.keep(f"local_content/ab/cd/{number:020}", bytes([number % 256]) * size)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    counted = memory.bytes
    assert memory.limit - (size + 2000) < counted <= memory.limit
    assert 0.75 * counted < taken <= counted


def test_every_text_counts() -> None:
    """Whatever Swift says about an object, a limit on memory includes it."""
    few, many = Memory(100_000), Memory(100_000)
    few.keep("a")
    long = "x" * 1000
    info = ObjectInfo(
        "name",
        1,
        long,
        long,
        long,
        owner=long,
        attempt=long,
        manifest_container=long,
        content_location=long,
    )
    many.cache.offer("a", WholeDownload(info, b"x"), 0.0, again=True)
    assert many.bytes - few.bytes > 6 * 1000


@pytest.mark.parametrize("seed", range(20))
def test_like_a_model(seed: int) -> None:
    """Whatever is done, in whatever order: the bytes stay below the limit, the least recently
    used file leaves first, and only a path's own newest bytes come back.
    """
    rng = random.Random(seed)
    memory = Memory(rng.choice([3000, 10_000, 50_000]))
    model: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
    requested: set[str] = set()
    for _ in range(1000):
        path = f"path{rng.randrange(30)}"
        act = rng.choices(["get", "offer", "drop"], [4, 4, 1])[0]
        if act == "get":
            file = memory.cache.get(path)
            assert (None if file is None else file.content) == model.get(path, (None, 0))[0]
            if path in model:
                model.move_to_end(path)
        elif act == "drop":
            memory.cache.drop(path)
            model.pop(path, None)
        else:
            content = rng.randbytes(rng.choice([0, 10, 500, 5000]))
            again = rng.random() < 0.2
            cost = memory_cache._cost(path, download(path, content))
            memory.offer(path, content, again=again)
            if cost <= memory.limit:
                if path in requested or again:
                    model.pop(path, None)
                    model[path] = (content, cost)
                requested.add(path)
            while sum(cost for _, cost in model.values()) > memory.limit:
                model.popitem(last=False)
        assert memory.files == len(model)
        assert memory.bytes == sum(cost for _, cost in model.values()) <= memory.limit
        assert list(memory.cache._files) == list(model)
