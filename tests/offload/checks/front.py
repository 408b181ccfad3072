"""A front before Swift whose answers a test changes, for programs that block."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.servers import process
from tests.servers.tls import Authority

_PAGE = b"<html><body>Welcome</body></html>"


@dataclass
class Answer:
    """What the client will get; a test changes it in place.

    :ivar method: of the request, like ``path``.
    :ivar headers: without those of the connection.
    """

    method: str
    path: str
    status: int
    headers: dict[str, str]
    body: bytes


class Front:
    """Passes requests on to a server.

    :ivar change: called with each answer.
    :ivar hold: called with method and path of each request, before it is passed on; may block.
    :ivar seen: method and path of each request.
    """

    def __init__(self, behind: str | None) -> None:
        self.change: Callable[[Answer], None] = lambda answer: None
        self.hold: Callable[[str, str], None] = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        self._behind = None if behind is None else urlsplit(behind).netloc
        self.url = ""

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        self.seen.append((method, path))
        self.hold(method, path)
        if self._behind is None:
            answer = Answer(method, path, 200, {"Content-Type": "text/html"}, _PAGE)
        else:
            with contextlib.closing(http.client.HTTPConnection(self._behind, timeout=30)) as server:
                server.request(method, path, body, headers)
                got = server.getresponse()
                answer = Answer(method, path, got.status, dict(got.getheaders()), got.read())
        self.change(answer)
        return answer


@contextlib.contextmanager
def running_front(behind: str | None, tls: Authority | None = None) -> Iterator[Front]:
    """Start one, and stop it at the end of the block.

    :param behind: the server's URL; ``None`` for one that answers everything by a web page.
    """
    front = Front(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
            dropped = ("connection", "transfer-encoding", "content-length")
            sent = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
            answer = front.answer(self.command, self.path, sent, body)
            self.send_response_only(answer.status)
            length = "content-length"
            for name, value in answer.headers.items():
                if name.lower() not in ("connection", "transfer-encoding", length):
                    self.send_header(name, value)
            if self.command == "HEAD":
                lengths = {k.lower(): v for k, v in answer.headers.items()}
                self.send_header(length, lengths.get(length, "0"))
            elif answer.status != 204:
                self.send_header(length, str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _handle

        def _chunks(self) -> bytes:
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                super().handle_one_request()

    server = ThreadingHTTPServer((process.LOOPBACK, 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
    scheme = "http"
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.server_cert, tls.server_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    front.url = f"{scheme}://{process.LOOPBACK}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
