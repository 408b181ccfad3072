"""What a listing is taken to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from swift_provider.client import ListedObject
from swift_provider.errors import AccessDeniedError
from swift_provider.offload.listing_hints import (
    NAMES_PER_PAGE,
    PAGES_IN_ADVANCE,
    ListingHints,
    Unlisted,
)

ROOT = "local_content/"


def _row(path: str) -> ListedObject:
    return ListedObject(path, 1, "", "")


class _Store:
    """A store whose listings have one object a page; counts the pages read."""

    def __init__(self, paths: Sequence[str], *, refuses: bool = False) -> None:
        self.paths = paths
        self.refuses = refuses
        self.read = 0

    async def list(self, folder: str = "") -> AsyncIterator[list[ListedObject]]:
        if self.refuses:
            raise AccessDeniedError("no", operation="GET", container="media", status=403)
        for path in self.paths:
            if path.startswith(folder):
                self.read += 1
                yield [_row(path)]


async def test_names_are_found_or_absent() -> None:
    """Read forward, a listing tells which names it holds; what was passed is unknown."""
    listing = ListingHints(_Store([f"{ROOT}b", f"{ROOT}d"]))
    found = await listing.look([f"{ROOT}{name}" for name in ("a", "b", "bb")])
    assert found == {
        f"{ROOT}a": Unlisted.ABSENT,
        f"{ROOT}b": _row(f"{ROOT}b"),
        f"{ROOT}bb": Unlisted.ABSENT,
    }
    assert await listing.look([f"{ROOT}b"]) == {f"{ROOT}b": Unlisted.UNKNOWN}
    await listing.close()


async def test_each_folder_has_a_listing_of_its_own() -> None:
    """Paths of different folders need no common order."""
    paths = ["local_content/b", "local_thumbnails/b", "remote_content/b", "remote_thumbnail/b"]
    listing = ListingHints(_Store(paths))
    backwards = paths[::-1]
    assert await listing.look(backwards) == {path: _row(path) for path in backwards}
    await listing.close()


async def test_after_the_end_all_is_absent() -> None:
    """Names after the last one are absent; so are all names of an empty listing."""
    listing = ListingHints(_Store([]))
    found = await listing.look([f"{ROOT}a", f"{ROOT}b"])
    assert list(found.values()) == [Unlisted.ABSENT] * 2


async def test_sparse_work_does_not_read_it_all() -> None:
    """A long listing is not read through for a few names; for many it is."""
    store = _Store([f"{ROOT}n{number:05}" for number in range(1000)])
    listing = ListingHints(store)
    far = f"{ROOT}n00900"
    assert await listing.look([far]) == {far: Unlisted.UNKNOWN}
    assert store.read == PAGES_IN_ADVANCE
    for _ in range(NAMES_PER_PAGE * 10):
        await listing.look([far])
    assert store.read == PAGES_IN_ADVANCE + 10
    await listing.close()


async def test_a_listing_that_is_refused() -> None:
    """A user who may not list the container gets no hints, and no error."""
    listing = ListingHints(_Store([f"{ROOT}a"], refuses=True))
    found = await listing.look([f"{ROOT}a", "remote_content/a"])
    assert list(found.values()) == [Unlisted.UNKNOWN] * 2
    await listing.close()
