"""Listings, page by page."""

from __future__ import annotations

import hashlib
import json

import pytest

from swift_provider.client import ListedObject, Store
from swift_provider.errors import DamagedError
from tests.client.conftest import Faulty
from tests.client.trouble import MakeFile
from tests.servers.faults import Answer

MD5 = hashlib.md5(b"content").hexdigest()


async def test_a_listing_is_whole_and_sorted(
    store: Store, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
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


async def test_rows_of_folders_are_left_out(faulty: Faulty, container: str) -> None:
    """A row without a name, which stands for a folder, is not an object."""
    row = {"name": "a", "bytes": 7, "hash": f'"{MD5.upper()}"', "last_modified": "1970-01-01"}
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
    "body", [b"{", b"[1]", b'{"name": 1}', b'[{"name": "a"}]', b'[{"name": "a", "bytes": "x"}]']
)
async def test_a_listing_that_cannot_be_read(faulty: Faulty, container: str, body: bytes) -> None:
    """A page that is not a listing is an error, and never an empty listing."""
    faulty.proxy.add(Answer(200, body))
    with pytest.raises(DamagedError, match="the listing cannot be read"):
        async for _ in faulty.store(container).list():
            pass
