"""Finds where HTTP/1.1 messages begin and end in a stream, keeping every byte.

Owns the cutting of a stream into pieces whose ``raw`` bytes, joined, are the
stream again. What to do with the pieces is the callers' business. Framing
rules: RFC 9112, section 6.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

MAX_HEAD_BYTES = 256 * 1024


class FramingError(Exception):
    """The stream is not HTTP/1.1."""


@dataclass(frozen=True)
class Piece:
    """A part of a message.

    :param raw: the bytes as they came in.
    """

    raw: bytes


@dataclass(frozen=True)
class Head(Piece):
    """Start line and headers, with the empty line after them.

    :param words: the start line's three words.
    :param headers: names in lower case; a repeated header's values are joined by ``, ``.
    """

    words: tuple[str, str, str]
    headers: dict[str, str]

    @property
    def interim(self) -> bool:
        """Whether this is a 1xx response, after which the real one follows."""
        return self.words[0].startswith("HTTP/") and self.words[1].startswith("1")


class Payload(Piece):
    """Bytes of the body itself."""


class Wrapping(Piece):
    """Bytes around the payload: sizes and ends of chunks, trailers."""


class End(Piece):
    """The message is over; ``raw`` is empty."""


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_SIZE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    UNTIL_CLOSE = auto()
    END = auto()


class Parser:
    """Cuts one direction of a connection, piece by piece, as the caller asks for them.

    :param response_to: for a stream of responses, returns the method of the
        request that the next response answers; ``None`` for a stream of requests.
    """

    def __init__(self, response_to=None) -> None:
        self._response_to = response_to
        self._buffer = bytearray()
        self._state = _State.HEAD
        self._left = 0
        self._closed = False

    @property
    def buffered(self) -> int:
        """Bytes that came in and were not asked for yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Takes what came in."""
        self._buffer += data

    def close(self) -> None:
        """Nothing more will come in; this ends a body that has no length."""
        self._closed = True

    def next(self, limit: int | None = None) -> Piece | None:
        """The next piece, or ``None`` until more has come in.

        :param limit: most bytes of payload wanted, at least 1; ``None`` for all there are.
        :raises FramingError: if the stream is not HTTP/1.1.
        """
        return _STEPS[self._state](self, limit)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        return self._take(end + 1)

    def _head(self, _limit: int | None) -> Piece | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise FramingError("no end of the headers")
            return None
        head = _parse_head(self._take(end + 4))
        self._state = self._body_state(head)
        return head

    def _body_state(self, head: Head) -> _State:
        bodiless = head.interim
        if self._response_to is not None and not head.interim:
            bodiless = self._response_to() == "HEAD" or head.words[1] in ("204", "304")
        if bodiless:
            return _State.END
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            return _State.CHUNK_SIZE
        if "content-length" in head.headers:
            self._left = int(head.headers["content-length"])
            return _State.LENGTH if self._left else _State.END
        return _State.END if self._response_to is None else _State.UNTIL_CLOSE

    def _payload(self, most: int, limit: int | None) -> Payload | None:
        count = min(most, len(self._buffer), most if limit is None else limit)
        return Payload(self._take(count)) if count else None

    def _length(self, limit: int | None) -> Piece | None:
        piece = self._payload(self._left, limit)
        if piece is not None:
            self._left -= len(piece.raw)
            if not self._left:
                self._state = _State.END
        return piece

    def _chunk_size(self, _limit: int | None) -> Piece | None:
        line = self._line()
        if line is None:
            return None
        try:
            self._left = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise FramingError("not a chunk size") from None
        self._state = _State.CHUNK_DATA if self._left else _State.TRAILER
        return Wrapping(line)

    def _chunk_data(self, limit: int | None) -> Piece | None:
        piece = self._payload(self._left, limit)
        if piece is not None:
            self._left -= len(piece.raw)
            if not self._left:
                self._state = _State.CHUNK_END
        return piece

    def _chunk_end(self, _limit: int | None) -> Piece | None:
        line = self._line()
        if line is None:
            return None
        self._state = _State.CHUNK_SIZE
        return Wrapping(line)

    def _trailer(self, _limit: int | None) -> Piece | None:
        line = self._line()
        if line is None:
            return None
        if not line.strip():
            self._state = _State.END
        return Wrapping(line)

    def _until_close(self, limit: int | None) -> Piece | None:
        piece = self._payload(len(self._buffer), limit)
        if piece is None and self._closed:
            self._state = _State.HEAD
            return End(b"")
        return piece

    def _end(self, _limit: int | None) -> Piece | None:
        self._state = _State.HEAD
        return End(b"")


_STEPS = {
    _State.HEAD: Parser._head,
    _State.LENGTH: Parser._length,
    _State.CHUNK_SIZE: Parser._chunk_size,
    _State.CHUNK_DATA: Parser._chunk_data,
    _State.CHUNK_END: Parser._chunk_end,
    _State.TRAILER: Parser._trailer,
    _State.UNTIL_CLOSE: Parser._until_close,
    _State.END: Parser._end,
}


def _parse_head(raw: bytes) -> Head:
    first, *lines = raw[:-4].decode("iso-8859-1").split("\r\n")
    words = [*first.split(" ", 2), "", ""][:3]
    if not (words[0].startswith("HTTP/") or words[2].startswith("HTTP/")):
        raise FramingError("not a request line or a status line")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise FramingError("not a header")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(raw, (words[0], words[1], words[2]), headers)
