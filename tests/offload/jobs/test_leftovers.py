"""Which segments are seen as one attempt, and which attempts an object needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any, cast

import pytest

from swift_provider.client import ListedObject, ObjectInfo, Store
from swift_provider.errors import ObjectNotFoundError, Target
from swift_provider.offload.jobs.leftovers import Attempt, attempts, is_live, seen_segments
from swift_provider.offload.jobs.prunable import Options, Prunable

PATH = "local_content/ab/cd/ef"
ONE, TWO = "1" * 32, "2" * 32


class _Store:
    """Lists these names, two a page; has one object at most."""

    def __init__(self, names: list[str], info: ObjectInfo | None = None) -> None:
        self._names = sorted(names)
        self._info = info

    async def list(self, folder: str) -> AsyncIterator[list[ListedObject]]:
        found = [name for name in self._names if name.startswith(folder)]
        for start in range(0, len(found), 2):
            yield [ListedObject(name, 1, "", "") for name in found[start : start + 2]]

    async def head(self, path: str, *, newest: bool) -> ObjectInfo:
        assert newest
        if self._info is None:
            raise Target("HEAD", "box", path).error(ObjectNotFoundError, "no such object")
        return self._info


def _store(*names: str, info: ObjectInfo | None = None) -> Store:
    return cast(Store, _Store(list(names), info))


async def test_an_attempt_over_several_pages() -> None:
    """All segments of an attempt come together; names that are not ours are left out."""
    first = [f"{PATH}/{ONE}/{number:08d}" for number in range(5)]
    second = [f"{PATH}/{TWO}/00000000"]
    thumbnail = [f"local_thumbnails/ab/cd/ef/32-32-image-png-crop/{ONE}/00000000"]
    strange = [
        f"{PATH}/1700000000.0/5/1/00000000",
        f"{PATH}/{ONE}/x",
        f"local_content/strange/{ONE}/00000000",
        f"other/{PATH}/{ONE}/00000000",
    ]
    store = _store(*first, *second, *thumbnail, *strange)
    found = [one async for page in attempts(store, pytest.fail) for one in page]
    assert [one.names for one in found] == [first, second, thumbnail]
    assert [one.attempt for one in found] == [ONE, TWO, ONE]


@pytest.mark.parametrize(
    ("facts", "live"),
    [
        ({"static_large": True, "attempt": ONE}, True),
        ({"static_large": True, "attempt": TWO}, False),
        ({"static_large": True}, True),
        ({"dynamic_large": True}, True),
        ({}, False),
    ],
)
async def test_the_object_that_is_there(facts: dict[str, Any], live: bool) -> None:
    """Another attempt's object, or a plain one, does not need the segments."""
    info = ObjectInfo(PATH, 1, "", "", "", **facts)
    assert await is_live(_store(info=info), Attempt(PATH, ONE)) is live


async def test_an_object_that_is_listed_only() -> None:
    """The disks that have it may be unreachable: nothing is concluded from a 404 then."""
    assert await is_live(_store(f"{PATH}2", f"{PATH}/x", PATH), Attempt(PATH, ONE))
    assert not await is_live(_store(f"{PATH}2"), Attempt(PATH, ONE))


async def test_a_segment_that_is_listed_only() -> None:
    """Nobody can tell whose it is, so it stays."""
    name = f"{PATH}/{ONE}/00000000"
    store = _store(name)
    store.owner = "here.example"
    store.container = "box"  # type: ignore[misc]
    options = Options(delete=True, unmarked=False, max_share=None)
    prunable = Prunable(store, options, datetime.now(timezone.utc))
    assert await seen_segments(store, Attempt(PATH, ONE, [name]), prunable) == ([], None)
