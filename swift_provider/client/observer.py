"""What the client reports about its work, for metrics. The base class ignores it.

The client calls these methods on the reactor's thread, in the middle of its work. They
must be quick and must not raise.
"""

from __future__ import annotations

from swift_provider.errors import SwiftProviderError


class Observer:
    """Override what is to be counted. Times are in seconds, sizes in bytes."""

    def exchange_finished(self, method: str, status: int | None, seconds: float) -> None:
        """One attempt at a request ended: its headers came, or it failed.

        :param status: HTTP status; ``None`` if no answer came.
        """

    def failed(self, error: Exception) -> None:
        """An operation failed for good. Not called for an object that Swift does not
        have: that is an answer.
        """

    def retried(self, error: Exception) -> None:
        """An attempt failed with this error, and a retry follows."""

    def retry_waits(self, error: SwiftProviderError, seconds: float) -> None:
        """The next attempt waits for its time.

        :param seconds: no attempt begins later than this after the first one.
        """

    def resumed(self) -> None:
        """A download was resumed by ``Range`` after a break or a long pause."""

    def sent(self, count: int) -> None:
        """Bytes of an object's body were handed to the connection."""

    def received(self, count: int) -> None:
        """Bytes of an object's body were received."""

    def slots_changed(self, in_flight: int, waiting: int) -> None:
        """How many exchanges are in flight, and how many wait for a slot."""

    def signed_in(self, error: Exception | None) -> None:
        """A sign-in ended: ``None`` if a token was issued, else the error."""

    def reachable(self, works: bool) -> None:
        """One of several mirrors works again, or does not work for now."""

    def owed(self, objects: int) -> None:
        """So many objects wait to be copied to, or deleted from, one of several mirrors."""


class Progress:
    """What one operation is doing, for a caller with a time limit of its own. The base class
    ignores it. As for :class:`Observer`, the methods must be quick and must not raise.
    """

    def attempt_begins(self) -> None:
        """A request has its slot, and goes to Swift now."""

    def goes_on(self) -> None:
        """Swift has answered that there is no such object. To be sure, it is asked again."""

    def request_ended(self) -> None:
        """Swift has answered a request of the operation, which goes on with another one."""

    def retry_waits(self, error: SwiftProviderError) -> None:
        """The attempt failed. The next one waits for its time, and then for a slot."""
