"""A few things at a time out of any number."""

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
    """Take items and handle them, each worker one at a time.

    :param take: gives the next item; ``None`` when there is no more.
    :param stopping: no further item is taken once it says so.
    :raises Exception: the first that either function raised, once no worker is busy.
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
    """Hands out one by one what comes in pages; the next page is asked for when one is used up."""

    def __init__(self, pages: AsyncGenerator[list[Item], None]) -> None:
        self._pages = pages
        self._ready: deque[Item] = deque()
        self._turn = DeferredLock()

    async def take(self) -> Item | None:
        """The next item; ``None`` at the end. Raises what the pages raise."""
        async with self._turn:
            while not self._ready:
                try:
                    self._ready.extend(await self._pages.__anext__())
                except StopAsyncIteration:
                    return None
            return self._ready.popleft()

    async def close(self) -> None:
        """Ask for no further page."""
        await self._pages.aclose()
