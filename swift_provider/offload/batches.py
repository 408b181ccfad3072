"""One query of the database for all who wait for an answer of the same kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import DeferredLock

Item = TypeVar("Item")


class _Batch(Generic[Item]):
    """Items to ask for together, and for which of them the answer is yes, once that is known."""

    def __init__(self) -> None:
        self.items: set[Item] = set()
        self.yes: set[Item] | None = None


class Batches(Generic[Item]):
    """Asks one question about items, once at a time.

    :param ask: returns those of some items for which the answer is yes.
    :param turn: held while it asks; ``None`` for a lock of its own.
    """

    def __init__(
        self,
        ask: Callable[[set[Item]], Awaitable[set[Item]]],
        turn: DeferredLock | None = None,
    ) -> None:
        self._ask = ask
        self._turn = turn or DeferredLock()
        self._next: _Batch[Item] = _Batch()

    async def answer(self, item: Item) -> bool:
        """Whether the answer is yes for an item, as of now.

        All items that waited for the question before this one are asked about together.

        :raises Exception: what ``ask`` raised.
        """
        batch = self._next
        batch.items.add(item)
        async with self._turn:
            if batch.yes is None:
                self._next = _Batch()
                batch.yes = await self._ask(batch.items)
        return item in batch.yes
