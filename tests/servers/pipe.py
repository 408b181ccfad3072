"""One direction of a relayed connection: from a source to a consumer of its chunks.

Owns back-pressure: as long as anybody holds the pipe, no piece leaves it, and
its source is not read from.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tests.servers.framing import Parser, Piece

#: Held because its sink's buffer is full.
FULL = "full"
#: Held because the exchange before is not over: reading goes on until something comes.
TURN = "turn"


@implementer(IPushProducer)
class Pipe:
    """Registered as the producer of its sink's transport.

    :param take: called with each piece; may hold the pipe, and put the piece back.
    :param limit: called for the most bytes of payload that the next piece may have.
    :param moved: called after pieces have left, and whenever the source is paused or resumed.
    """

    def __init__(self, parser: Parser, take, limit, moved) -> None:
        self.parser = parser
        self.source = None
        self._take = take
        self._limit = limit
        self._moved = moved
        self._holds: set[str] = set()
        self._back: Piece | None = None
        self._pumping = False
        self.paused = False

    @property
    def held(self) -> bool:
        """Whether a piece would have to wait."""
        return bool(self._holds)

    @property
    def empty(self) -> bool:
        """Whether all that came in has left, as far as it makes whole pieces."""
        return self._back is None and not self.held and not self._pumping

    def attach(self, source) -> None:
        """Names the transport to read from; ``None`` if it is gone."""
        self.source = source
        self.paused = False
        self._apply()

    def discard(self) -> None:
        """Lets everything go that holds the pipe; for a relay that drops what comes in."""
        self._holds.clear()
        self._back = None
        self._apply()

    def hold(self, why: str) -> None:
        """Stops the pipe until this reason, and any other, is released."""
        self._holds.add(why)
        self._apply()

    def release(self, why: str) -> None:
        """Takes one reason away."""
        self._holds.discard(why)
        self.pump()

    def feed(self, data: bytes) -> None:
        """Bytes from the source."""
        self.parser.feed(data)
        self.pump()

    def put_back(self, piece: Piece) -> None:
        """Makes this the next piece."""
        self._back = piece

    def pump(self) -> None:
        """Hands out pieces for as long as nobody holds the pipe."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._holds:
                piece = self._back or self.parser.next(self._limit())
                self._back = None
                if piece is None:
                    break
                self._take(piece)
        finally:
            self._pumping = False
        self._apply()

    def _apply(self) -> None:
        idle = self._holds == {TURN} and not self.parser.buffered and self._back is None
        pause = bool(self._holds) and not idle
        if self.source is not None and pause != self.paused:
            self.paused = pause
            if pause:
                self.source.pauseProducing()
            else:
                self.source.resumeProducing()
        self._moved()

    def pauseProducing(self) -> None:
        """The sink's buffer is full."""
        self.hold(FULL)

    def resumeProducing(self) -> None:
        """The sink's buffer has emptied."""
        self.release(FULL)

    def stopProducing(self) -> None:
        """The sink is gone; the relay hears it from the sink's protocol."""
