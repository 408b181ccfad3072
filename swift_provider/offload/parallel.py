"""Handles any number of items, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList, DeferredLock

Item = TypeVar("Item")


async def in_parallel(
    workers: int,
    take: Callable[[], Awaitable[Item | None]],
    handle: Callable[[Item], Coroutine[Any, Any, None]],
    stopping: Callable[[], bool],
) -> None:
    """Take items and handle them until there are no more.

    :param workers: how many items are handled at once.
    :param take: returns the next item; ``None`` at the end.
    :param stopping: once it returns ``True``, the workers take no further item.
    :raises Exception: the first error that ``take`` or ``handle`` raised, after all
        workers have finished. An error lets no worker take a further item.
    """
    errors: list[Exception] = []

    async def work() -> None:
        while not errors and not stopping():
            try:
                item = await take()
                if item is None:
                    return
                await handle(item)
            except Exception as error:
                errors.append(error)

    await DeferredList([Deferred.fromCoroutine(work()) for _ in range(workers)])
    if errors:
        raise errors[0]


class Items(Generic[Item]):
    """Hands out the items of pages one by one; reads a page when the last one is used up."""

    def __init__(self, pages: AsyncGenerator[list[Item], None]) -> None:
        self._pages = pages
        self._ready: deque[Item] = deque()
        self._turn = DeferredLock()

    async def take(self) -> Item | None:
        """The next item; ``None`` at the end.

        :raises Exception: any error of the pages.
        """
        async with self._turn:
            while not self._ready:
                try:
                    self._ready.extend(await self._pages.__anext__())
                except StopAsyncIteration:
                    return None
            return self._ready.popleft()

    async def close(self) -> None:
        """Read no further page."""
        await self._pages.aclose()
