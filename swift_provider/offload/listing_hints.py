"""What the listing of a container says about objects: a hint that saves requests.

A listing of Swift may be minutes late, so it proves nothing. But one page names ten
thousand objects and costs as much as some dozens of HEADs. Listings are sorted by name,
and so is the work. So both are read side by side, with one listing for each of the media
store's folders.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncGenerator
from enum import Enum

from swift_provider.client import ListedObject, Place
from swift_provider.errors import AccessDeniedError, RequestRefusedError
from swift_provider.offload.media_names import ROOTS

#: A page of a listing costs about as much as this many HEADs, forty at a time. A listing
#: is read further only if that many paths were looked up for each page.
NAMES_PER_PAGE = 100
#: Pages that may be read before any path is looked up.
PAGES_IN_ADVANCE = 2


class Unlisted(Enum):
    """Why there is no row for an object."""

    #: The listing was read at the object's place, and has no row for it.
    ABSENT = "absent"
    #: The listing was not read at the object's place.
    UNKNOWN = "unknown"


Hint = ListedObject | Unlisted


class ListingHints:
    """The listings of the media store's folders in one store."""

    def __init__(self, store: Place) -> None:
        self._roots = {root: _Stream(store.list(f"{root}/")) for root in ROOTS}
        self._given_up = False

    async def look(self, paths: list[str]) -> dict[str, Hint]:
        """What the listings say about some objects.

        The paths below each root must be sorted, also from one call to the next. For a
        path that comes too late, the answer is :attr:`Unlisted.UNKNOWN`. If Swift refuses
        the listing, that is the answer for all paths.

        :raises SwiftError: if a listing fails for good.
        """
        hints: dict[str, Hint] = {}
        for path in paths:
            hints[path] = Unlisted.UNKNOWN
            if not self._given_up:
                stream = self._roots[path.partition("/")[0]]
                try:
                    hints[path] = await stream.find(path)
                except (AccessDeniedError, RequestRefusedError):
                    # An ACL may allow a user the objects only, which is enough for uploads.
                    self._given_up = True
        return hints

    def give_up(self) -> None:
        """The listing failed: the answer is :attr:`Unlisted.UNKNOWN` from now on."""
        self._given_up = True

    async def close(self) -> None:
        """Read no further."""
        for stream in self._roots.values():
            await stream.close()


class _Stream:
    """One listing, read forward only.

    Each look-up adds one to the budget, and each page costs :data:`NAMES_PER_PAGE`.
    """

    def __init__(self, pages: AsyncGenerator[list[ListedObject], None]) -> None:
        self._pages = pages
        self._page: list[ListedObject] = []
        self._names: list[str] = []
        #: The last name of the page before this one.
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
        await self._pages.aclose()
