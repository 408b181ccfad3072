"""What the client tells about its work, for metrics; the base class ignores it all.

The client calls these methods on the reactor's thread, in the middle of its
work: they must be quick and must not raise.
"""

from __future__ import annotations


class Observer:
    """Override what you want to count. Times are in seconds, sizes in bytes."""

    def exchange_finished(self, method: str, status: int | None, seconds: float) -> None:
        """One request was answered, up to its headers.

        :param status: HTTP status; ``None`` if no answer came.
        """

    def failed(self, error: Exception) -> None:
        """An operation ends in this error; no further try follows. Not called for an
        object that Swift does not have, which is an answer.
        """

    def retried(self, error: Exception) -> None:
        """A try failed with this error, and another one follows."""

    def resumed(self) -> None:
        """A download goes on by ``Range`` after a break or a long pause."""

    def sent(self, count: int) -> None:
        """Bytes of an object's body were handed to the connection."""

    def received(self, count: int) -> None:
        """Bytes of an object's body came in."""

    def slots_changed(self, in_flight: int, waiting: int) -> None:
        """The number of exchanges under way, and of those that wait for a slot."""

    def signed_in(self, error: Exception | None) -> None:
        """A token was asked for; ``None`` if it was issued."""
