"""Listings, page by page."""

from __future__ import annotations

import hashlib
import json

import pytest

from swift_provider.client import ListedObject, Place
from swift_provider.errors import DamagedError
from tests.client.conftest import Faulty
from tests.client.trouble import MakeFile
from tests.servers.faults import Answer

MD5 = hashlib.md5(b"content").hexdigest()
ROW = {"name": "a", "bytes": 7, "hash": MD5, "last_modified": "1970-01-01"}


def page_of(*names: str) -> bytes:
    return json.dumps([{**ROW, "name": name} for name in names]).encode()


async def test_a_listing_is_whole_and_sorted(
    store: Place, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages follow each other to the end, and a prefix selects."""
    monkeypatch.setattr("swift_provider.client.listings.PAGE_ROWS", 3)
    source = make_file(b"content")
    for number in range(8):
        await store.put(f"a/{number}", source)
    await store.put("b/0", source)
    pages = [page async for page in store.list("a/")]
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [row.name for page in pages for row in page] == [f"a/{n}" for n in range(8)]
    assert {row.etag for page in pages for row in page} == {MD5}


async def test_a_cluster_with_a_lower_limit(
    store: Place, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses more rows than its limit, which nobody knows before."""
    monkeypatch.setattr("swift_provider.client.listings.PAGE_ROWS", 20_000)
    await store.put("name", make_file(b"content"))
    pages = [page async for page in store.list()]
    assert [[row.name for row in page] for page in pages] == [["name"]]


async def test_rows_of_folders_are_left_out(faulty: Faulty, container: str) -> None:
    """A row without a name, which stands for a folder, is not an object."""
    row = {**ROW, "hash": f'"{MD5.upper()}"'}
    page = json.dumps([{"subdir": "b/"}, row]).encode()
    faulty.proxy.add(Answer(200, page), Answer(200, b"[]"))
    pages = [page async for page in faulty.store(container).list()]
    assert pages == [[ListedObject("a", 7, MD5, "1970-01-01")]]
    assert "marker=a" in faulty.proxy.requests[1].path


async def test_an_empty_answer_is_an_empty_listing(faulty: Faulty, container: str) -> None:
    """A 204 without a body ends the listing."""
    faulty.proxy.add(Answer(204))
    assert [page async for page in faulty.store(container).list()] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"5",
        b"null",
        b"[1]",
        b'{"name": 1}',
        b'[{"name": "a"}]',
        b"[" * 100_000,
        *(
            json.dumps([{**ROW, key: value}]).encode()
            for key, value in (
                ("name", 5),
                ("name", None),
                ("name", chr(0xD800)),
                ("bytes", "x"),
                ("bytes", -1),
                ("bytes", 1e999),
                ("bytes", True),
                ("hash", None),
                ("last_modified", 0),
            )
        ),
        b'[{"name": "a", "bytes": %b}]' % (b"5" * 5000),
    ],
    ids=range(17),
)
async def test_a_listing_that_cannot_be_read(faulty: Faulty, container: str, body: bytes) -> None:
    """A page that is not a listing is an error, and never an empty listing."""
    faulty.proxy.add(Answer(200, body))
    with pytest.raises(DamagedError, match="the listing cannot be read"):
        async for _ in faulty.store(container).list():
            pass


async def test_the_same_page_for_every_marker(faulty: Faulty, container: str) -> None:
    """A cache that ignores the query would make a listing without end."""
    faulty.proxy.add(Answer(200, page_of("a", "b"), times=2))
    listing = faulty.store(container).list()
    assert [row.name for row in await listing.__anext__()] == ["a", "b"]
    with pytest.raises(DamagedError, match="not the one that was asked for"):
        await listing.__anext__()


@pytest.mark.parametrize(
    "names", [("b/2", "b/1"), ("b/1", "b/1"), ("b/1", "c/1"), ("a/1", "b/1"), ("/1",), ("",)]
)
async def test_a_page_that_is_not_the_one_asked_for(
    faulty: Faulty, container: str, names: tuple[str, ...]
) -> None:
    """Names that do not rise, or that lack the prefix, are no listing of it."""
    faulty.proxy.add(Answer(200, page_of(*names)))
    with pytest.raises(DamagedError, match="not the one that was asked for"):
        async for _ in faulty.store(container).list("b/"):
            pass


async def test_names_of_any_characters_are_sorted(
    store: Place, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swift's order, by the bytes of UTF-8, is the one that is expected here."""
    monkeypatch.setattr("swift_provider.client.listings.PAGE_ROWS", 2)
    names = ["A", "_", "a", "a b", "a%2F", "a/b", "\u00e4", "\uffee", "\U0001f600"]
    for name in names:
        await store.put(name, make_file(b"content"))
    listed = [row.name async for page in store.list() for row in page]
    assert listed == sorted(names)
