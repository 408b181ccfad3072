"""The listings of several places, side by side, however their pages are cut."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from swift_provider.client import ListedObject
from swift_provider.errors import ServerBusyError, SwiftProviderError
from swift_provider.offload.jobs import listings_beside
from swift_provider.offload.jobs.listings_beside import beside


class Listed:
    """A place that lists these names, in pages of this size."""

    def __init__(self, names: list[str], rows: int, error: Exception | None = None) -> None:
        self.name = "there"
        self._names = sorted(names)
        self._rows = rows
        self._error = error
        self.closed = False

    async def list(self, folder: str) -> AsyncGenerator[list[ListedObject], None]:
        assert folder == "folder/"
        try:
            for start in range(0, len(self._names), self._rows):
                page = self._names[start : start + self._rows]
                yield [ListedObject(name, 1, "", "") for name in page]
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


def never(place: Any, error: SwiftProviderError) -> None:
    raise error


async def read(places: list[Any], failed: Any = None) -> list[tuple[str, list[bool]]]:
    rows = [row async for page in beside(places, "folder/", failed or never) for row in page]
    return [(row.path, [one is not None for one in row.listed]) for row in rows]


@pytest.mark.parametrize("page_rows", [1, 3, 1000])
async def test_side_by_side(monkeypatch: pytest.MonkeyPatch, page_rows: int) -> None:
    """Each name comes once, in order, with the places that list it."""
    monkeypatch.setattr(listings_beside, "PAGE_ROWS", page_rows)
    draw = random.Random(1)
    for _ in range(50):
        held = [
            [name for name in "aåbcdefgh" if draw.random() < draw.choice([0, 0.5, 1])]
            for _ in range(3)
        ]
        places = [Listed(names, draw.randint(1, 4)) for names in held]
        names = sorted({name for names in held for name in names})
        assert await read(places) == [(name, [name in names for names in held]) for name in names]
        assert all(place.closed for place in places if place._names)


async def test_a_listing_that_fails() -> None:
    """The error has the name of the place; the others are listed to their end."""
    error = ServerBusyError("busy", operation="GET")
    places = [Listed(["b", "c"], 1), Listed(["a", "b"], 1, error)]
    told: list[tuple[Any, SwiftProviderError]] = []
    rows = await read(places, lambda place, error: told.append((place, error)))
    assert rows == [("a", [False, True]), ("b", [True, True]), ("c", [True, False])]
    assert told == [(places[1], error)]
    assert str(error).startswith("there: GET")
    assert all(place.closed for place in places)
