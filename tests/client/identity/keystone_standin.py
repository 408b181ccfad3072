"""A stand-in for Keystone whose answers, faults and token lifetimes a test chooses.

A test cannot make the real Keystone overloaded or slow, nor choose its token
lifetimes and its catalogue. Speaks as much of the v3 API as a sign-in needs,
and Swift's v1 sign-in under ``/auth/v1.0``.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Keystone's clock is years behind, and must not matter.
ISSUED_AT = datetime.datetime(2001, 1, 1)
OAUTH2_TOKEN = "oauth2-access-token"
STORAGE_URL = "https://swift.example/v1/AUTH_p"


def endpoint(url: str, region: str = "RegionOne", interface: str = "public") -> dict[str, str]:
    return {"url": url, "region": region, "region_id": region, "interface": interface, "id": "e"}


class Standin:
    """What the stand-in answers, and what it was asked.

    :ivar url: Keystone's v3 URL.
    :ivar faults: the next answers to a sign-in, as ``(status, headers, body)``. The
        stand-in issues a token when none is left. Below ``/faulty``, the discovery of
        Keystone's versions takes its answers from here.
    :ivar lifetime: of the tokens, in seconds; ``None`` for tokens that do not expire.
    :ivar sign_ins: the number of sign-ins, faults included.
    :ivar paths: of all requests.
    :ivar token: that it issues; ``""`` for a new one each time.
    :ivar trickles: whether answers come a byte at a time, without end.
    :ivar going: clear it to make sign-ins wait.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v3"
        self.faults: list[tuple[int, dict[str, str], str]] = []
        self.lifetime: float | None = 3600.0
        self.endpoints = [endpoint(STORAGE_URL + "/")]
        self.service_type = "object-store"
        self.sign_ins = 0
        self.paths: list[str] = []
        self.token = ""
        self.trickles = False
        self.going = threading.Event()
        self.going.set()

    def fail(self, status: int, body: str = "{}", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append((status, named, body))

    def sign_in(self) -> tuple[int, dict[str, str], str]:
        self.sign_ins += 1
        self.going.wait(30)
        if self.faults:
            return self.faults.pop(0)
        token = {"X-Subject-Token": self.token or f"token-{self.sign_ins}"}
        return 201, token, json.dumps({"token": self._token()})

    def sign_in_v1(self) -> tuple[int, dict[str, str], str]:
        self.sign_ins += 1
        headers = {"X-Storage-Url": STORAGE_URL, "X-Auth-Token": f"v1-{self.sign_ins}"}
        if self.lifetime is not None:
            headers["X-Auth-Token-Expires"] = str(int(self.lifetime))
        return 200, headers, ""

    def _token(self) -> dict[str, Any]:
        token: dict[str, Any] = {
            "methods": ["password"],
            "issued_at": ISSUED_AT.isoformat() + "Z",
            "catalog": [],
        }
        if self.lifetime is not None:
            ends = ISSUED_AT + datetime.timedelta(seconds=self.lifetime)
            token["expires_at"] = ends.isoformat() + "Z"
        if self.endpoints:
            service = {"type": self.service_type, "name": "swift", "id": "s"}
            token["catalog"] = [{**service, "endpoints": self.endpoints}]
        return token


@contextlib.contextmanager
def running_standin() -> Iterator[Standin]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            standin.paths.append(self.path)
            if self.path == "/auth/v1.0":
                self._answer(*standin.sign_in_v1())
            elif self.path.startswith("/faulty"):
                self._answer(*standin.faults.pop(0))
            else:
                links = [{"rel": "self", "href": standin.url}]
                version = {"id": "v3.14", "status": "stable", "links": links}
                self._answer(200, {}, json.dumps({"version": version}))

        def do_POST(self) -> None:
            standin.paths.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/oauth2":
                self._answer(200, {}, json.dumps({"access_token": OAUTH2_TOKEN}))
            else:
                self._answer(*standin.sign_in())

        def _answer(self, status: int, headers: dict[str, str], body: str) -> None:
            content = body.encode()
            self.send_response(status)
            headers = {"Content-Type": "application/json", **headers}
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            # The client may have given up and closed the connection.
            with contextlib.suppress(OSError):
                if standin.trickles:
                    self._trickle()
                self.wfile.write(content)

        def _trickle(self) -> None:
            """Send spaces, which JSON allows, until the client has gone."""
            while standin.trickles:
                self.wfile.write(b" ")
                time.sleep(0.02)

        def log_message(self, *arguments: object) -> None:
            """Nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        standin = Standin(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield standin
        finally:
            standin.going.set()
            standin.trickles = False
            server.shutdown()
            thread.join()
