"""Many HTTP clients in one small process; needs nothing but Python.

Reads a plan (JSON) from the file named on its command line, prints what it saw.
All use plain HTTP/1.1 on persistent connections, and expect ``Content-Length``.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LOCATION = re.compile(rb"\r\nlocation: *([^\r]+)", re.IGNORECASE)
PROBE_SECONDS = 0.02
#: How often a small file is asked for while uploads wait.
READ_EVERY_SECONDS = 0.1
#: A slow reader's socket buffer, so that the server notices soon.
SLOW_BUFFER_BYTES = 32 * 1024


class Client(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, int, float]] | None = None
        self._head = b""
        self._left = 0
        self._size = 0
        self._first = 0.0
        self._status = 0
        #: Where the last answer sends the client; empty if nowhere.
        self.location = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    async def request(self, data: bytes) -> tuple[int, int, float]:
        """:returns: status, bytes of the body, seconds until the body's first byte."""
        self.answer = asyncio.get_running_loop().create_future()
        self._head, self._first = b"", 0.0
        began = time.monotonic()
        self.transport.write(data)
        status, size, first = await self.answer
        return status, size, first - began

    def data_received(self, data: bytes) -> None:
        if self._first == 0.0:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head)
            self._size = self._left = int(length[1]) if length else 0
            self._status = int(head[9:12])
            location = _LOCATION.search(head)
            self.location = location[1].decode() if location else ""
            if self._left and not rest:
                return  # until the body's first byte comes
            self._first = time.monotonic()
            data = rest
        self._left -= len(data)
        if self._left <= 0 and self.answer is not None and not self.answer.done():
            self.answer.set_result((self._status, self._size, self._first))

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError(f"connection lost: {error}"))


class Plan:
    """What to do, as the plan says."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._host, self._port = plan["host"], plan["port"]
        self._headers = f"Host: {self._host}\r\nAuthorization: Bearer {plan['token']}\r\n"

    def get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\n{self._headers}\r\n".encode()

    def post(self, size: int) -> bytes:
        head = (
            f"POST /_matrix/media/v3/upload HTTP/1.1\r\n{self._headers}"
            f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        )
        return head.encode() + bytes(size)

    async def connect(
        self, host: str | None = None, port: int | None = None, scheme: str = "http"
    ) -> Client:
        """:param host: ``None`` for the homeserver."""
        loop = asyncio.get_running_loop()
        # The certificate is not what is measured.
        tls = ssl._create_unverified_context() if scheme == "https" else None
        where = (host or self._host, port or self._port)
        _, client = await loop.create_connection(Client, *where, ssl=tls)
        return client

    async def downloads(self) -> dict[str, Any]:
        """``clients`` of them fetch ``paths`` in turn until ``count`` requests are done.

        With ``probe`` another client asks for something trivial meanwhile.
        """
        plan = self._plan
        numbers = iter(range(plan["count"]))
        size = 0

        async def work() -> None:
            nonlocal size
            client = await self.connect()
            elsewhere: Client | None = None
            for number in numbers:
                path = plan["paths"][number % len(plan["paths"])]
                status, length, _ = await client.request(self.get(path))
                if status == 307:
                    url = urlsplit(client.location)
                    if elsewhere is None:
                        elsewhere = await self.connect(url.hostname, url.port, url.scheme)
                    line = f"GET {url.path}?{url.query} HTTP/1.1"
                    request = f"{line}\r\nHost: {url.netloc}\r\n\r\n".encode()
                    status, length, _ = await elsewhere.request(request)
                if status != 200 or length != plan["size"]:
                    raise ValueError(f"{path}: HTTP {status}, {length} bytes")
                size += length
            client.transport.close()
            if elsewhere is not None:
                elsewhere.transport.close()

        probe = asyncio.ensure_future(self._probe()) if plan["probe"] else None
        began = time.monotonic()
        await asyncio.gather(*[work() for _ in range(plan["clients"])])
        seconds = time.monotonic() - began
        seen = []
        if probe is not None:
            probe.cancel()
            seen = await probe
        return {"seconds": seconds, "bytes": size, "probe": seen}

    async def trivial(self) -> dict[str, Any]:
        """Nothing but a trivial endpoint, for ``seconds``."""
        probe = asyncio.ensure_future(self._probe())
        await asyncio.sleep(self._plan["seconds"])
        probe.cancel()
        return {"probe": await probe}

    async def _probe(self) -> list[float]:
        """How long a trivial endpoint takes meanwhile; returns when cancelled."""
        client = await self.connect()
        seen = []
        try:
            while True:
                began = time.monotonic()
                await client.request(self.get("/_matrix/client/versions"))
                seen.append(time.monotonic() - began)
                await asyncio.sleep(PROBE_SECONDS)
        except asyncio.CancelledError:
            return seen

    async def slow(self) -> dict[str, Any]:
        """``clients`` of them read at ``rate`` bytes a second for ``seconds``."""
        plan = self._plan
        loop = asyncio.get_running_loop()
        until = time.monotonic() + plan["seconds"]
        taken = 0

        async def work(path: str) -> None:
            nonlocal taken
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
                connection.setblocking(False)
                await loop.sock_connect(connection, (self._host, self._port))
                await loop.sock_sendall(connection, self.get(path))
                while time.monotonic() < until:
                    data = await loop.sock_recv(connection, plan["rate"] // 10)
                    if not data:
                        raise ConnectionError("a slow reader was cut off")
                    taken += len(data)
                    await asyncio.sleep(0.1)

        paths: Iterator[str] = (
            plan["paths"][n % len(plan["paths"])] for n in range(plan["clients"])
        )
        tasks = [asyncio.ensure_future(work(path)) for path in paths]
        done = await asyncio.wait_for(
            asyncio.gather(*tasks, return_exceptions=True), plan["seconds"] + 30
        )
        return {"bytes": taken, "cut_off": sum(isinstance(one, Exception) for one in done)}

    async def first_byte(self) -> dict[str, Any]:
        """Seconds to the first byte of a small file: idle, and while ``uploads`` wait.

        Meanwhile one is asked for every so often, whether or not the last has come:
        a wait of seconds is seen by all who would have waited.
        """
        plan = self._plan

        async def one(client: Client, number: int) -> float:
            path = plan["paths"][number % len(plan["paths"])]
            status, _, first = await client.request(self.get(path))
            if status != 200:
                raise ValueError(f"{path}: HTTP {status}")
            return first

        async def upload(uploader: Client) -> None:
            status, _, _ = await uploader.request(self.post(plan["upload_size"]))
            uploader.transport.close()
            if status != 200:
                raise ValueError(f"upload: HTTP {status}")

        # One after the other: the server's queue of new connections is short.
        readers = [await self.connect() for _ in range(plan["count"])]
        uploaders = [await self.connect() for _ in range(plan["uploads"])]
        idle = [await one(reader, number) for number, reader in enumerate(readers)]
        uploads = [asyncio.ensure_future(upload(uploader)) for uploader in uploaders]
        reads = []
        for number, reader in enumerate(readers):
            await asyncio.sleep(READ_EVERY_SECONDS)
            if all(done.done() for done in uploads):
                break
            reads.append(asyncio.ensure_future(one(reader, number)))
        busy = await asyncio.gather(*reads)
        await asyncio.gather(*uploads)
        return {"idle": idle, "busy": busy}


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(asyncio.run(getattr(Plan(plan), plan["do"])())))


if __name__ == "__main__":
    main()
