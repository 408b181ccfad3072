"""Which containers exist, as Swift's answers have shown: a 404 there is the object's.

Swift answers 404 alike for a missing object and a missing container.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

#: How long a successful response counts as proof that the container exists, so that a
#: 404 is about the object.
CONTAINER_SEEN_SECONDS = 30.0


class SeenContainers:
    """The containers of the account at one storage URL.

    :ivar storage_url: the latest that was used.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.storage_url = ""
        self._seen: dict[str, float] = {}

    def use(self, storage_url: str) -> None:
        """Forget all containers if requests go to another URL now: another account."""
        if storage_url != self.storage_url:
            self.storage_url = storage_url
            self._seen.clear()

    def add(self, container: str, storage_url: str) -> None:
        """A container exists. Does nothing if ``storage_url`` is no longer the latest."""
        if storage_url == self.storage_url:
            self._seen[container] = self._clock.seconds()

    def forget(self, container: str) -> None:
        """A container may not exist after all."""
        self._seen.pop(container, None)

    def recently(self, container: str, moment: float) -> bool:
        """Whether an answer of the half minute before a moment has shown that it exists."""
        seen = self._seen.get(container)
        return seen is not None and 0 <= moment - seen < CONTAINER_SEEN_SECONDS
