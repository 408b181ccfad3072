"""One request to Swift, described so that it can be sent several times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from swift_provider.client.slots import Lane, Slot, Slots
from swift_provider.client.upload_bodies import Body
from swift_provider.errors import Target

#: Waits for the slot of one attempt.
TakeSlot = Callable[[Slots], Awaitable[Slot]]


@dataclass(frozen=True)
class Request:
    """One request, which may be sent several times.

    :param container: ``None`` for a request to the storage URL itself.
    :param query: without ``?``, percent-encoded.
    :param make_body: makes the body of one attempt; ``None`` for a request without.
    :param size: bytes of the body, for the operation's time limit.
    :param accepts: statuses besides 2xx that are no errors.
    :param take_slot: waits for the slot of one attempt; ``None`` for one of ``lane``.
    """

    method: str
    container: str | None
    name: str | None = None
    query: str = ""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    lane: Lane = Lane.READ
    make_body: Callable[[], Body] | None = None
    size: int = 0
    accepts: frozenset[int] = frozenset()
    take_slot: TakeSlot | None = None

    @property
    def target(self) -> Target:
        """For the errors about this request."""
        return Target(self.method, self.container, self.name)

    def url(self, storage_url: str) -> bytes:
        """The whole URL. The storage URL is used as it is."""
        url = storage_url
        if self.container is not None:
            url += "/" + quote(self.container, safe="")
        if self.name is not None:
            url += "/" + quote(self.name, safe="/~")
        if self.query:
            url += "?" + self.query
        return url.encode("ascii")
