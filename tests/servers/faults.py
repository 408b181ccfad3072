"""The faults that :class:`tests.servers.fault_proxy.FaultProxy` can put into an exchange.

Owns what each fault is and which request it is for; how it is carried out is
in ``fault_relay``. A request meets at most one fault: the first one added that
has turns left and matches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from twisted.internet.defer import Deferred


@dataclass(frozen=True)
class Place:
    """A moment in an exchange.

    :param offset: bytes of payload relayed before it; ``None`` where no body is meant.
    """

    name: str
    offset: int | None = None


#: The request's headers have come; nothing of it was forwarded.
ON_REQUEST = Place("on request")
#: The server has answered; nothing of its answer was relayed.
BEFORE_RESPONSE = Place("before response")
#: The status line was relayed, and no header.
AFTER_STATUS_LINE = Place("after status line")
#: The whole response was relayed; the connection would be kept.
AFTER_RESPONSE = Place("after response")

REQUEST_BODY = "request body"
RESPONSE_BODY = "response body"


def in_request(offset: int) -> Place:
    """After the headers and this many bytes of the request's payload."""
    return Place(REQUEST_BODY, offset)


def in_response(offset: int) -> Place:
    """After the headers and this many bytes of the response's payload."""
    return Place(RESPONSE_BODY, offset)


@dataclass(eq=False, kw_only=True)
class Fault:
    """What all faults have.

    :param times: how many requests it is for; ``None`` for all.
    :param match: method (``None`` for any) and a regular expression searched
        in path and query; ``None`` for any request.
    :param reused: only requests that are not the first on their connection.
    """

    times: int | None = 1
    match: tuple[str | None, str] | None = None
    reused: bool = False
    #: How many requests it was given to, and in how many of them its place was reached.
    taken: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)
    _waiting: list[Deferred[None]] = field(default_factory=list, init=False, repr=False)

    def wants(self, method: str, path: str, first: bool) -> bool:
        """Whether this request is for it."""
        if self.times is not None and self.taken >= self.times:
            return False
        if self.reused and first:
            return False
        if self.match is None:
            return True
        wanted, pattern = self.match
        return wanted in (None, method) and re.search(pattern, path) is not None

    def count(self) -> None:
        """It happens now."""
        self.fired += 1
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def happened(self) -> Deferred[None]:
        """Fires when it next happens, at once if it has happened already."""
        deferred: Deferred[None] = Deferred()
        if self.fired:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred


@dataclass(eq=False)
class Pass(Fault):
    """No fault: lets requests through, so that a later one gets the next fault."""


@dataclass(eq=False)
class Reset(Fault):
    """Resets the connection (RST), once the peer's kernel has all that came before."""

    place: Place = BEFORE_RESPONSE


@dataclass(eq=False)
class Cut(Fault):
    """Ends the connection (FIN) after all that came before.

    :param close_notify: with TLS, whether its own end is sent first.
    """

    place: Place = BEFORE_RESPONSE
    close_notify: bool = True


@dataclass(eq=False)
class Stall(Fault):
    """Stops relaying, with all connections open, until released or the client leaves.

    An exchange stalled in its request still relays an answer, and the other way round.
    """

    place: Place = BEFORE_RESPONSE
    _held: list = field(default_factory=list, init=False, repr=False)

    def hold(self, release) -> None:
        """Notes how to end one stall."""
        self._held.append(release)

    def release(self) -> None:
        """Lets all that is stalled go on; later requests still stall if turns are left."""
        held, self._held = self._held, []
        for release in held:
            release()


@dataclass(eq=False)
class Delay(Fault):
    """Waits before the request is forwarded, or before the response is relayed.

    :param place: ``ON_REQUEST`` or ``BEFORE_RESPONSE``.
    """

    seconds: float
    place: Place = ON_REQUEST


@dataclass(eq=False)
class Crawl(Delay):
    """Relays the response's headers late, and both bodies a few bytes at a time.

    :param bytes_per_second: of each body.
    """

    place: Place = BEFORE_RESPONSE
    bytes_per_second: int = 300
    crawling: bool = field(default=True, init=False)

    def release(self) -> None:
        """Relays at full speed from the next piece on, in exchanges in flight too."""
        self.crawling = False


@dataclass(eq=False)
class FlipBit(Fault):
    """Changes one bit of a payload.

    :param place: ``in_request(offset)`` or ``in_response(offset)``, the byte to damage.
    :param bit: 0 for the lowest.
    """

    place: Place
    bit: int = 0

    def damage(self, body: str, start: int, data: bytes) -> bytes:
        """The payload ``data``, which begins at ``start``; flipped if the byte is in there."""
        if self.place.name != body or not start <= self.place.offset < start + len(data):
            return data
        self.count()
        damaged = bytearray(data)
        damaged[self.place.offset - start] ^= 1 << self.bit
        return bytes(damaged)


class Then(Enum):
    """What a server does with the rest of a request that it has answered."""

    #: Reads and drops it; the connection can be used again.
    READ_ON = auto()
    #: Reads nothing from the answer's first byte on; the connection stays open.
    STOP_READING = auto()
    #: Closes as a server does: FIN, and RST if unread bytes are left or come in.
    CLOSE = auto()


@dataclass(eq=False)
class Answer(Fault):
    """A response of ours; the server never sees the request.

    :param after: bytes of the request's payload to read before answering;
        0 answers when the headers are in, ``None`` when the whole request is.
    :param body_delay: seconds between the headers and the body; ``None`` sends both in one write.
    :param headers: ``Content-Length`` is added unless it is in there.
    :param raw: sent in place of the whole response, HTTP or not.
    :param foreign: without the transaction id that Swift sends with every response.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int | None = 0
    then: Then = Then.READ_ON
    body_delay: float | None = None
    raw: bytes | None = None
    foreign: bool = False

    def parts(self, method: str) -> tuple[bytes, bytes]:
        """Head and body as they are sent in answer to ``method``."""
        if self.raw is not None:
            return self.raw, b""
        lines = [f"HTTP/1.1 {self.status} Canned"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not self.foreign and "X-Trans-Id" not in self.headers:
            lines.append("X-Trans-Id: canned")
        if not any(name.lower() == "content-length" for name in self.headers):
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join([*lines, "", ""]).encode("iso-8859-1")
        return head, b"" if method == "HEAD" else self.body
