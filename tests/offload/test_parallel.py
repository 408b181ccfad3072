"""Many things, a few at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from twisted.internet.defer import Deferred

from swift_provider.offload.parallel import Items, in_parallel


async def _pages(closed: list[str]) -> AsyncGenerator[list[int], None]:
    try:
        for first in range(0, 100, 10):
            yield list(range(first, first + 10))
            yield []
    finally:
        closed.append("closed")


async def test_as_many_as_allowed_at_once() -> None:
    """Every item is handled once, and as many at a time as there are workers."""
    handled: list[int] = []
    busy: list[Deferred[None]] = []
    peak = 0
    items = Items(_pages([]))

    async def handle(item: int) -> None:
        nonlocal peak
        handled.append(item)
        done: Deferred[None] = Deferred()
        busy.append(done)
        peak = max(peak, len(busy))
        await done

    over = Deferred.fromCoroutine(in_parallel(7, items.take, handle, lambda: False))
    while busy:
        busy.pop().callback(None)
    await over
    assert handled == list(range(100))
    assert peak == 7


async def test_stopping() -> None:
    """Nothing more is taken once the end is asked for, and the pages are closed."""
    handled: list[int] = []
    closed: list[str] = []
    items = Items(_pages(closed))

    async def handle(item: int) -> None:
        handled.append(item)

    await in_parallel(1, items.take, handle, lambda: len(handled) == 15)
    await items.close()
    assert handled == list(range(15))
    assert closed == ["closed"]


async def test_an_error_ends_it() -> None:
    """The first error is raised, but not before the other workers have finished theirs."""
    waiting: Deferred[None] = Deferred()
    handled: list[int] = []
    items = Items(_pages([]))

    async def handle(item: int) -> None:
        if item == 1:
            raise LookupError
        await waiting
        handled.append(item)

    over = Deferred.fromCoroutine(in_parallel(2, items.take, handle, lambda: False))
    assert not over.called
    waiting.callback(None)
    with pytest.raises(LookupError):
        await over
    assert handled == [0]
