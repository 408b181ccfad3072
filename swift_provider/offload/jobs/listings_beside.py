"""The listings of several places, side by side.

Each is sorted, and read page by page, so that memory holds a page of each place, however
many objects there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import NamedTuple

from swift_provider.client import ListedObject, Place
from swift_provider.errors import SwiftProviderError

#: So many rows make a page of the result.
PAGE_ROWS = 1000


class Beside(NamedTuple):
    """One path, as the places list it.

    :ivar listed: in the places' order; ``None`` for those that do not list it, and for those
        whose listing has failed.
    """

    path: str
    listed: tuple[ListedObject | None, ...]


async def beside(
    places: Sequence[Place], folder: str, failed: Callable[[Place, SwiftProviderError], None]
) -> AsyncGenerator[list[Beside], None]:
    """The paths in a folder that any of the places lists, page by page, sorted by name.

    :param failed: called if a page of a place could not be had for good. The listing goes on
        without it.
    """
    async with AsyncExitStack() as stack:
        listings = []
        for place in places:
            pages = await stack.enter_async_context(aclosing(place.list(folder)))
            listings.append(_Listing(place, pages, failed))
        page: list[Beside] = []
        while True:
            heads = [await listing.head() for listing in listings]
            first = min((head.name for head in heads if head is not None), default=None)
            if first is None:
                break
            page.append(
                Beside(
                    first,
                    tuple(
                        listing.take() if head is not None and head.name == first else None
                        for listing, head in zip(listings, heads, strict=True)
                    ),
                )
            )
            if len(page) == PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page


class _Listing:
    """What is left of one place's listing."""

    def __init__(
        self,
        place: Place,
        pages: AsyncGenerator[list[ListedObject], None],
        failed: Callable[[Place, SwiftProviderError], None],
    ) -> None:
        self._place = place
        self._pages = pages
        self._failed = failed
        self._rows: deque[ListedObject] = deque()
        self._ended = False

    async def head(self) -> ListedObject | None:
        """The next row; ``None`` at the end."""
        while not self._rows and not self._ended:
            try:
                self._rows.extend(await self._pages.__anext__())
            except StopAsyncIteration:
                self._ended = True
            except SwiftProviderError as error:
                error.mirror = self._place.name
                self._ended = True
                self._failed(self._place, error)
        return self._rows[0] if self._rows else None

    def take(self) -> ListedObject:
        """Go on to the row after the next."""
        return self._rows.popleft()
