"""A server that speaks Swift's API as Ceph's RADOS Gateway does, in memory.

For what no real Swift can be made to answer. It follows Ceph 16.2.15 as it was
measured side by side with Swift, oddities included: conditions on PUT that are
ignored, pages cut at 1000 rows, manifests that cannot be read back. What was
not measured, it answers plainly; it is not a reference for RGW. It owns no
fault of the connection: put a ``FaultProxy`` in front.

API: https://docs.ceph.com/en/pacific/radosgw/swift/
"""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.servers.stand_in_listing import Listings
from tests.servers.stand_in_model import Asked, Container, Reply, refusal
from tests.servers.stand_in_objects import Objects
from tests.servers.stand_in_temp_url import disposition, may_read

_S3_NOT_FOUND = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchBucket</Code></Error>'
_MAX_NAME_BYTES = 1024


class RgwStandIn:
    """Listens on 127.0.0.1; each is empty at first.

    :param user: for v1 sign-in at ``auth_url``, with ``key``.
    """

    def __init__(self, reactor, user: str = "matrix:synapse", key: str = "stand-in-key") -> None:
        self.reactor = reactor
        self.port = 0
        #: What is stored; a test may look into it and change it.
        self.containers: dict[str, Container] = {}
        #: Names that belong to somebody else.
        self.taken: set[str] = set()
        #: Placement targets; the first is the default.
        self.policies = ["default-placement"]
        #: Tokens that are accepted; each sign-in adds one.
        self.tokens = {"stand-in-token"}
        #: The account's keys for temporary URLs.
        self.temp_url_keys: list[str] = []
        self.max_object_bytes = 5 * 1024**3
        #: Of each container; ``None`` for no quota.
        self.quota_bytes: int | None = None
        #: How long a GET is silent where a segment is gone, before the connection is closed.
        self.silence_seconds = 65.0
        #: Method and path of every request, with its query.
        self.requests: list[tuple[str, str]] = []
        self.credentials = (user, key)
        self._listening = None
        self._factory: _Counted | None = None

    @property
    def url(self) -> str:
        """The storage URL; no account in it (``rgw_swift_account_in_url`` is false)."""
        return f"http://127.0.0.1:{self.port}/swift/v1"

    @property
    def auth_url(self) -> str:
        """For v1 sign-in."""
        return f"http://127.0.0.1:{self.port}/auth/v1.0"

    async def start(self) -> None:
        """Begins to listen, on a port that the system chooses."""
        site = Site(_Gateway(self))
        site.noisy = False
        site.log = lambda request: None
        self._factory = _Counted(site)
        self._factory.noisy = False
        self._listening = self.reactor.listenTCP(0, self._factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Ends the port and all connections."""
        await self._listening.stopListening()
        await self._factory.abort_all()

    def now(self) -> float:
        """Seconds since 1970, for what is stored."""
        return self.reactor.seconds()

    def bytes_used(self, container: str) -> int:
        """A manifest counts as the JSON that was sent, its segments where they lie."""
        return sum(len(stored.data) for stored in self.containers[container].objects.values())

    def sign_in(self, user: str | None, key: str | None) -> Reply:
        """v1 sign-in: 204 where Swift says 200."""
        if (user, key) != self.credentials:
            return refusal(401, "AccessDenied")
        token = f"stand-in-token-{len(self.tokens) + 1}"
        self.tokens.add(token)
        headers = {"X-Storage-Url": self.url, "X-Storage-Token": token, "X-Auth-Token": token}
        return Reply(204, b"", headers)


class _Counted(WrappingFactory):
    """Knows the open connections."""

    _emptied: Deferred[None] | None = None

    def unregisterProtocol(self, protocol) -> None:
        super().unregisterProtocol(protocol)
        if self._emptied is not None and not self.protocols:
            self._emptied.callback(None)

    async def abort_all(self) -> None:
        if self.protocols:
            self._emptied = Deferred()
            for protocol in list(self.protocols):
                protocol.abortConnection()
            await self._emptied


class _Gateway(Resource):
    """Takes requests apart, and sends the answers."""

    isLeaf = True

    def __init__(self, server: RgwStandIn) -> None:
        super().__init__()
        self._server = server
        self._objects = Objects(server)
        self._listings = Listings(server)
        self._number = 0

    def render(self, request) -> int:
        method = request.method.decode()
        headers = {
            name.decode().lower(): ", ".join(value.decode("utf-8", "replace") for value in values)
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self._server.requests.append((method, request.uri.decode()))
        self._send(request, self._route(request, method, headers))
        return NOT_DONE_YET

    def _route(self, request, method: str, headers: dict[str, str]) -> Reply:
        path = request.path
        if path in (b"/auth/v1.0", b"/auth/1.0", b"/auth"):
            return self._server.sign_in(headers.get("x-auth-user"), headers.get("x-auth-key"))
        if path == b"/swift/info":
            return _info()
        if path == b"/swift/healthcheck":
            return Reply(200)
        if path != b"/swift/v1" and not path.startswith(b"/swift/v1/"):
            return Reply(404, _S3_NOT_FOUND, {"Content-Type": "application/xml"})
        container, _, name = path.removeprefix(b"/swift/v1").removeprefix(b"/").partition(b"/")
        try:
            asked = Asked(
                method,
                unquote_to_bytes(container).decode() or None,
                unquote_to_bytes(name).decode() or None,
                headers,
                dict(parse_qsl(request.uri.partition(b"?")[2].decode(), keep_blank_values=True)),
                request.content.read(),
            )
            decoded = unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return refusal(400, "InvalidObjectName")
        return self._answer(asked, decoded)

    def _answer(self, asked: Asked, path: str) -> Reply:
        signed = "temp_url_sig" in asked.query
        if signed and not may_read(asked, path, self._server.temp_url_keys, self._server.now()):
            return refusal(403, "AccessDenied", asked)
        if not signed and asked.headers.get("x-auth-token") not in self._server.tokens:
            # Without WWW-Authenticate.
            return refusal(401, "AccessDenied", asked)
        reply = self._answer_to_permitted(asked)
        if signed and reply.status < 300:
            reply.headers["Content-Disposition"] = disposition(asked)
        return reply

    def _answer_to_permitted(self, asked: Asked) -> Reply:
        if asked.container is None:
            return self._listings.account(asked)
        if asked.name is None:
            return self._listings.container(asked)
        if len(asked.name.encode()) > _MAX_NAME_BYTES or "\0" in asked.name:
            return refusal(400, "InvalidObjectName", asked)
        if asked.container in self._server.taken:
            return refusal(403, "AccessDenied", asked)
        if asked.container not in self._server.containers:
            return refusal(404, "NoSuchBucket", asked)
        return self._objects.handle(asked)

    def _send(self, request, reply: Reply) -> None:
        self._number += 1
        request.setResponseCode(reply.status)
        trans_id = f"tx{self._number:021x}-00stand-in-default"
        headers = {"X-Trans-Id": trans_id, "X-Openstack-Request-Id": trans_id}
        for name, value in {**headers, "Connection": "Keep-Alive", **reply.headers}.items():
            request.setHeader(name.encode(), value.encode())
        if reply.status not in (204, 304):
            length = len(reply.body) if reply.length is None else reply.length
            request.setHeader(b"content-length", b"%d" % length)
        request.write(b"" if request.method == b"HEAD" else reply.body)
        if reply.silence and request.method != b"HEAD":
            self._fall_silent(request)
        else:
            request.finish()

    def _fall_silent(self, request) -> None:
        timer = self._server.reactor.callLater(
            self._server.silence_seconds, request.transport.loseConnection
        )

        def stop(_reason) -> None:
            if timer.active():
                timer.cancel()

        request.notifyFinish().addErrback(stop)


def _info() -> Reply:
    content = {
        "bulk_delete": {},
        "container_quotas": {},
        "swift": {
            "max_file_size": 5 * 1024**3,
            "container_listing_limit": 10000,
            "version": "16.2.15",
            "policies": [{"default": True, "name": "default-placement"}],
            "max_object_name_size": _MAX_NAME_BYTES,
            "strict_cors_mode": True,
            "max_container_name_length": 255,
        },
        "tempurl": {"methods": ["GET", "HEAD", "PUT", "POST", "DELETE"]},
        "slo": {"max_manifest_segments": 1000},
        "account_quotas": {},
        "staticweb": {},
        "tempauth": {"account_acls": False},
    }
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Reply(200, json.dumps(content).encode(), kind)
