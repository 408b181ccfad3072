"""Which segments are seen as one attempt, and which attempts an object needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any, cast

import pytest

from swift_provider.client import ListedObject, ObjectInfo, Place
from swift_provider.errors import ObjectNotFoundError, Target
from swift_provider.offload.jobs.leftovers import Attempt, Leftovers, Verdict, attempts
from swift_provider.offload.jobs.prunable import WANTED, Options, Prunable

PATH = "local_content/ab/cd/ef"
ONE, TWO = "1" * 32, "2" * 32


class _Store:
    """Lists these names, two a page; has these objects, and is its own place for segments."""

    owner = "here.example"
    container = "box"

    def __init__(self, names: list[str], *infos: ObjectInfo, flaw: str | None = None) -> None:
        self._names = sorted(names)
        self._infos = {info.name: info for info in infos}
        self._flaw = flaw
        self.segments = self

    async def list(self, folder: str) -> AsyncIterator[list[ListedObject]]:
        found = [name for name in self._names if name.startswith(folder)]
        for start in range(0, len(found), 2):
            yield [ListedObject(name, 1, "", "") for name in found[start : start + 2]]

    async def head(self, path: str, *, newest: bool) -> ObjectInfo:
        assert newest
        if path not in self._infos:
            raise Target("HEAD", "box", path).error(ObjectNotFoundError, "no such object")
        return self._infos[path]

    async def flaw(self, info: ObjectInfo) -> str | None:
        return self._flaw


def _store(*names: str) -> Place:
    return cast(Place, _Store(list(names)))


SEGMENT = ObjectInfo(
    f"{PATH}/{ONE}/00000000",
    *(1, "", "", "Thu, 01 Jan 2026 00:00:00 GMT"),
    owner="here.example",
    manifest_container="box",
)


async def _verdict(store: _Store, lengths: set[int] | None) -> Verdict:
    async def lengths_of(path: str) -> set[int] | None:
        assert path == PATH
        return lengths

    whole = cast(Place, store)
    options = Options(delete=True, unmarked=False, max_share=None)
    leftovers = Leftovers(whole, Prunable(whole, options, datetime.now(timezone.utc)), lengths_of)
    return await leftovers.judge(Attempt(PATH, ONE, [SEGMENT.name]))


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


LIVE = Verdict()
KEPT = Verdict(reason=WANTED)
REPLACED = Verdict([SEGMENT.name])
ORPHAN = Verdict([SEGMENT.name], orphan=SEGMENT)


@pytest.mark.parametrize(
    ("facts", "flaw", "if_known", "if_unknown"),
    [
        ({"static_large": True, "attempt": ONE}, None, LIVE, LIVE),
        ({"static_large": True}, None, LIVE, LIVE),
        ({"dynamic_large": True}, None, LIVE, LIVE),
        ({"static_large": True, "attempt": TWO}, None, REPLACED, ORPHAN),
        ({"static_large": True, "attempt": TWO}, "a segment is gone", KEPT, ORPHAN),
        ({}, None, REPLACED, ORPHAN),
        ({}, "will be deleted", KEPT, ORPHAN),
        (None, None, KEPT, ORPHAN),
    ],
)
async def test_the_object_that_is_there(
    facts: dict[str, Any] | None, flaw: str | None, if_known: Verdict, if_unknown: Verdict
) -> None:
    """Segments go if another whole object is there, or if nobody knows the media."""
    infos = [] if facts is None else [ObjectInfo(PATH, 1, "", "", "", **facts)]
    store = _Store([], SEGMENT, *infos, flaw=flaw)
    assert await _verdict(store, {1, 2}) == if_known
    assert await _verdict(store, set()) == if_known
    assert await _verdict(store, {2}) == (LIVE if if_known == LIVE else KEPT)
    assert await _verdict(store, None) == if_unknown


async def test_an_object_that_is_listed_only() -> None:
    """The disks that have it may be unreachable: nothing is concluded from a 404 then."""
    listed = _Store([f"{PATH}2", f"{PATH}/x", PATH], SEGMENT)
    assert await _verdict(listed, None) == LIVE
    assert await _verdict(_Store([f"{PATH}2"], SEGMENT), None) == ORPHAN


async def test_a_segment_that_is_listed_only() -> None:
    """Nobody can tell whose it is, so it stays."""
    assert await _verdict(_Store([SEGMENT.name]), None) == LIVE
