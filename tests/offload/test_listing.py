"""What a listing is taken to say."""

from __future__ import annotations

from collections.abc import AsyncIterator

from swift_provider.client import ListedObject
from swift_provider.offload.listing import NAMES_PER_PAGE, PAGES_IN_ADVANCE, Unlisted, _Stream


def _row(name: str) -> ListedObject:
    return ListedObject(name, 1, "", "")


class _Pages:
    """A listing of one name a page, that counts the pages read."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.read = 0

    async def pages(self) -> AsyncIterator[list[ListedObject]]:
        for name in self.names:
            self.read += 1
            yield [_row(name)]


async def test_names_are_found_or_absent() -> None:
    """Read forward, a listing tells which names it holds; what was passed is unknown."""
    stream = _Stream(_Pages(["b", "d"]).pages())
    found = {name: await stream.find(name) for name in ("a", "b", "bb")}
    assert found == {"a": Unlisted.ABSENT, "b": _row("b"), "bb": Unlisted.ABSENT}
    assert await stream.find("b") is Unlisted.UNKNOWN
    await stream.close()


async def test_after_the_end_all_is_absent() -> None:
    """Names after the last one are absent; so are all names of an empty listing."""
    stream = _Stream(_Pages([]).pages())
    assert [await stream.find(name) for name in ("a", "b")] == [Unlisted.ABSENT] * 2


async def test_sparse_work_does_not_read_it_all() -> None:
    """A long listing is not read through for a few names; for many it is."""
    pages = _Pages([f"n{number:05}" for number in range(1000)])
    stream = _Stream(pages.pages())
    assert await stream.find("n00900") is Unlisted.UNKNOWN
    assert pages.read == PAGES_IN_ADVANCE
    for _ in range(NAMES_PER_PAGE * 10):
        await stream.find("n00900")
    assert pages.read == PAGES_IN_ADVANCE + 10
    await stream.close()
