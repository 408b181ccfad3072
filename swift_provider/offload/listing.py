"""What a container's listing says about objects: a hint that spares requests.

A listing of Swift's may be minutes late, so it proves nothing. But it names
ten thousand objects at the price of some dozens of HEADs, in the order of
their names, which is also the order of our work: so both are read side by
side, one listing for each of the media store's folders.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator
from enum import Enum

from swift_provider.client import ListedObject, SwiftClient
from swift_provider.errors import AccessDeniedError, RequestRefusedError
from swift_provider.offload.media_names import ROOTS

#: A page of a listing costs about as much as asking for this many objects one by
#: one, forty at a time. Where the work is sparser than that, it is not read on.
NAMES_PER_PAGE = 100
PAGES_IN_ADVANCE = 2


class Unlisted(Enum):
    """Why there is no row for an object."""

    #: The listing was read at its place, and it is not there.
    ABSENT = "absent"
    #: The listing was not read that far.
    UNKNOWN = "unknown"


Hint = ListedObject | Unlisted


class Listing:
    """The listing of one container below one prefix.

    :param prefix: the module's ``prefix``, empty or with a slash at its end.
    """

    def __init__(self, client: SwiftClient, container: str, prefix: str) -> None:
        self._roots = {
            root: _Stream(client.list_objects(container, prefix=f"{prefix}{root}/"))
            for root in ROOTS
        }
        self._prefix = prefix
        self._refused = False

    async def look(self, paths: list[str]) -> dict[str, Hint]:
        """What the listing says about some objects, by their paths without prefix.

        The paths below each root must come in order, from call to call as well;
        one that comes too late is :attr:`Unlisted.UNKNOWN`.

        :raises SwiftError: if the listing breaks off. Not if it is refused:
            nothing is known then.
        """
        hints: dict[str, Hint] = {}
        for path in paths:
            hints[path] = Unlisted.UNKNOWN
            if not self._refused:
                stream = self._roots[path.partition("/")[0]]
                try:
                    hints[path] = await stream.find(self._prefix + path)
                except (AccessDeniedError, RequestRefusedError):
                    # A user with an ACL for objects only; that is enough for uploads.
                    self._refused = True
        return hints

    async def close(self) -> None:
        """Read no further."""
        for stream in self._roots.values():
            await stream.close()


class _Stream:
    """One listing, read forward only."""

    def __init__(self, pages: AsyncIterator[list[ListedObject]]) -> None:
        self._pages = pages
        self._page: list[ListedObject] = []
        self._names: list[str] = []
        self._passed = ""
        self._budget = PAGES_IN_ADVANCE * NAMES_PER_PAGE
        self._ended = False

    async def find(self, name: str) -> Hint:
        """The row of an object, or why there is none."""
        self._budget += 1
        if name <= self._passed:
            return Unlisted.UNKNOWN
        while not self._ended and (not self._names or self._names[-1] < name):
            if self._budget < NAMES_PER_PAGE:
                return Unlisted.UNKNOWN
            self._budget -= NAMES_PER_PAGE
            await self._next_page()
        place = bisect_left(self._names, name)
        if place < len(self._names) and self._names[place] == name:
            return self._page[place]
        return Unlisted.ABSENT

    async def _next_page(self) -> None:
        if self._names:
            self._passed = self._names[-1]
        try:
            self._page = await self._pages.__anext__()
        except StopAsyncIteration:
            self._page, self._ended = [], True
        self._names = [listed.name for listed in self._page]

    async def close(self) -> None:
        close = getattr(self._pages, "aclose", None)
        if close is not None:
            await close()
