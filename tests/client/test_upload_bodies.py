"""Bodies of uploads, step by step: one chunk ahead, and not one more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from swift_provider.client import FileSource
from swift_provider.client.upload_bodies import (
    AT_ONCE_BYTES,
    CHUNK_BYTES,
    BytesBody,
    FileBody,
    make_body,
)
from swift_provider.errors import FileChangedError
from tests.client.trouble import MakeFile, content_of

SIZE = 3 * CHUNK_BYTES + 1


class Bench:
    """A consumer and a thread that does one step when told to; writes down what happens."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.content = b""
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any]]] = []

    def run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.events.append("read")
        done: Deferred[Any] = Deferred()
        self._steps.append((function, arguments, done))
        return done

    def step(self) -> None:
        """Do what was given to the thread."""
        function, arguments, done = self._steps.pop(0)
        try:
            result = function(*arguments)
        except Exception:
            done.errback(Failure())
        else:
            done.callback(result)

    @property
    def idle(self) -> bool:
        return not self._steps

    def write(self, data: bytes) -> None:
        self.events.append(len(data))
        self.content += data


def started(bench: Bench, source: FileSource) -> tuple[FileBody, list[Any]]:
    body = make_body(source, 0, source.size, bench)  # type: ignore[arg-type]
    assert isinstance(body, FileBody)
    ended: list[Any] = []
    body.startProducing(bench).addBoth(ended.append)  # type: ignore[arg-type]
    return body, ended


def test_reads_one_chunk_ahead(make_file: MakeFile) -> None:
    """While one chunk is with the connection, the next one is read."""
    bench = Bench()
    body, ended = started(bench, make_file(content_of(SIZE)))
    assert (body.length, body.declared_md5) == (SIZE, None)
    for _ in range(4):
        assert not body.finished
        bench.step()
    assert bench.events == [
        "read",
        *("read", CHUNK_BYTES, "read", CHUNK_BYTES, "read", CHUNK_BYTES),
        1,
    ]
    assert bench.content == content_of(SIZE)
    assert (ended, body.finished, bench.idle) == ([None], True, True)


def test_a_full_connection_stops_the_reading(make_file: MakeFile) -> None:
    """While the connection is full, one chunk waits and no other is read."""
    bench = Bench()
    body, ended = started(bench, make_file(content_of(SIZE)))
    bench.step()
    body.pauseProducing()
    bench.step()
    body.pauseProducing()
    assert bench.events == ["read", "read", CHUNK_BYTES]
    assert bench.idle
    body.resumeProducing()
    body.resumeProducing()
    assert bench.events == ["read", "read", CHUNK_BYTES, "read", CHUNK_BYTES]
    bench.step()
    bench.step()
    assert (bench.content, ended) == (content_of(SIZE), [None])


def test_a_connection_that_pauses_at_each_write(make_file: MakeFile) -> None:
    """A pause from inside a write holds from the next chunk on."""
    bench = Bench()
    body, ended = started(bench, make_file(content_of(SIZE)))
    write, bench.write = bench.write, lambda data: (write(data), body.pauseProducing())  # type: ignore[method-assign]
    while not ended:
        if not bench.idle:
            bench.step()
        body.resumeProducing()
    assert bench.content == content_of(SIZE)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_stopped_body_says_nothing_more(make_file: MakeFile, steps: int) -> None:
    """A stopped body hands over nothing more, also if a read is in flight and the file closed."""
    bench = Bench()
    source = make_file(content_of(SIZE))
    body, ended = started(bench, source)
    for _ in range(steps):
        bench.step()
    before = len(bench.content)
    body.stopProducing()
    source.close()
    while not bench.idle:
        bench.step()
    body.resumeProducing()
    body.stopProducing()
    assert (len(bench.content), ended, body.finished) == (before, [], False)


def test_the_end_of_a_changed_file_is_not_sent(make_file: MakeFile) -> None:
    """A file that changed fails before its last bytes are handed over."""
    bench = Bench()
    source = make_file(content_of(SIZE))
    _, ended = started(bench, source)
    bench.step()
    with open(source.path, "r+b") as file:
        file.write(b"changed")
    while not bench.idle:
        bench.step()
    assert isinstance(ended[0].value, FileChangedError)
    assert len(bench.content) == SIZE - 1


def test_small_parts_are_read_at_once(make_file: MakeFile) -> None:
    """A part up to the limit is read at once and declared; a larger one is streamed."""
    source = make_file(content_of(AT_ONCE_BYTES + 1))
    bench = Bench()
    small = make_body(source, 1, AT_ONCE_BYTES, bench)
    assert isinstance(small, BytesBody)
    assert small.declared_md5 == small.md5
    assert not small.finished
    small.startProducing(bench)  # type: ignore[arg-type]
    assert small.finished
    assert bench.content == content_of(AT_ONCE_BYTES + 1)[1:]
    assert isinstance(make_body(source, 0, AT_ONCE_BYTES + 1, bench), FileBody)


def test_what_was_handed_over_is_not_kept() -> None:
    """A body drops its bytes once it has handed them over."""
    body = BytesBody(b"content of a small file")
    bench = Bench()
    body.startProducing(bench)  # type: ignore[arg-type]
    assert bench.content == b"content of a small file"
    assert bench.content not in vars(body).values()
    assert (body.length, body.finished) == (23, True)
