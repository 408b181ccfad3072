"""Uploads on a slow line: bytes that flow are not taken for silence."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.task import Clock

from swift_provider.client import Place, SwiftClient
from swift_provider.client.http.acknowledged import bytes_acknowledged
from swift_provider.client.http.time_limit import LOOKS, TimeLimit
from swift_provider.errors import TimedOutError
from tests.client.trouble import NO_PATIENCE, MakeFile, begin, content_of, soon

ANSWER = (
    b"HTTP/1.1 201 Created\r\nETag: %b\r\nX-Trans-Id: tx1\r\n"
    b"Last-Modified: Thu, 26 Nov 2026 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
)


class SlowServer:
    """Takes a few bytes now and then, as a slow line does; a thread.

    :ivar stopped: set to take nothing more.
    """

    def __init__(self, piece: int, seconds: float) -> None:
        self.stopped = threading.Event()
        self._piece = piece
        self._seconds = seconds
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._closing = threading.Event()
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1/AUTH_x"

    def close(self) -> None:
        self._closing.set()
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        import hashlib

        self._listener.settimeout(10)
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            received = b""
            length = None
            while not self._closing.wait(self._seconds):
                if self.stopped.is_set():
                    continue
                received += connection.recv(self._piece)
                head, end, body = received.partition(b"\r\n\r\n")
                if end and length is None:
                    (line,) = [
                        row for row in head.split(b"\r\n") if row.lower().startswith(b"content-len")
                    ]
                    length = int(line.split(b":")[1])
                if length is not None and len(body) >= length:
                    md5 = hashlib.md5(body).hexdigest().encode()
                    connection.sendall(ANSWER % md5)
                    self._closing.wait(10)
                    return


@pytest.fixture
def slow() -> Iterator[Callable[[int, float], SlowServer]]:
    servers: list[SlowServer] = []

    def make(piece: int, seconds: float) -> SlowServer:
        servers.append(SlowServer(piece, seconds))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize("size", [200_000, 700_000], ids=["small", "large"])
async def test_a_slow_line_is_not_silence(
    slow: Callable[[int, float], SlowServer],
    make_client: Callable[..., SwiftClient],
    make_file: MakeFile,
    size: int,
) -> None:
    """An upload that takes several limits succeeds while its bytes flow."""
    seconds = 1.0
    server = slow(size // 60, 0.05)
    client = make_client(
        storage_url=server.url,
        auth_type="none",
        auth={},
        idle_timeout=seconds,
        response_timeout=seconds,
        patience=NO_PATIENCE,
        segment_size="5G",
    )
    began = time.monotonic()
    info = await Place(client, "box").put("name", make_file(content_of(size)))
    assert info.size == size
    assert time.monotonic() - began > 2 * seconds


@pytest.mark.parametrize("size", [200_000, 700_000], ids=["small", "large"])
async def test_a_line_that_stands_still_is_silence(
    slow: Callable[[int, float], SlowServer],
    make_client: Callable[..., SwiftClient],
    make_file: MakeFile,
    size: int,
) -> None:
    """When no byte is acknowledged any more, the limit counts from then on."""
    server = slow(1000, 0.01)
    server.stopped.set()
    client = make_client(
        storage_url=server.url,
        auth_type="none",
        auth={},
        idle_timeout=0.4,
        response_timeout=0.4,
        patience=NO_PATIENCE,
        segment_size="5G",
    )
    with pytest.raises(TimedOutError, match=r"for 0\.4 seconds"):
        await soon(begin(Place(client, "box").put("name", make_file(content_of(size)))))


def test_the_kernel_counts_what_was_acknowledged() -> None:
    """Bytes that the peer's kernel has taken, whatever was handed over."""

    class Wire:
        def __init__(self, handle: socket.socket) -> None:
            self.getHandle = lambda: handle

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as sending:
            sending.setblocking(False)
            peer, _ = listener.accept()
            with peer:
                before = bytes_acknowledged(Wire(sending))
                assert before is not None
                handed_over = sending.send(bytes(4_000_000))
                time.sleep(0.1)
                after = bytes_acknowledged(Wire(sending))
                assert after is not None
                assert 0 < after - before < handed_over


def test_another_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not count, the limits are those of what was handed over."""
    monkeypatch.delattr(socket, "TCP_INFO")
    assert bytes_acknowledged(object()) is None


def test_a_limit_that_is_looked_at_begins_anew() -> None:
    """It passes once nothing has moved for all of it, to a quarter."""
    clock, passed, moving = Clock(), [], [True]
    limit = TimeLimit(clock, passed.append)
    limit.watch(LOOKS, "no answer came", lambda: moving[0])
    clock.pump([1] * 20)
    assert passed == []
    moving[0] = False
    clock.pump([1] * (LOOKS - 1))
    assert passed == []
    clock.advance(1)
    assert passed == [f"no answer came for {LOOKS} seconds"]
    assert clock.getDelayedCalls() == []
