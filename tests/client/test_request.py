"""The URLs of requests."""

from __future__ import annotations

import pytest

from swift_provider.client import Place
from swift_provider.client.request import Request
from tests.client.trouble import MakeFile


@pytest.mark.parametrize(
    "name", ["a b", "%41%2F", "ü/é/☃", "a//b", "a/../b", "?x=1&y#z", "+;:@[]'\"", "~tilde", "a/."]
)
async def test_any_name_is_kept(store: Place, make_file: MakeFile, name: str) -> None:
    """Names with special characters reach Swift as they are."""
    await store.put(name, make_file(b"content"))
    names = [row.name async for page in store.list() for row in page]
    assert names == [name]
    assert await store.delete(name)


@pytest.mark.parametrize(
    ("asked", "rest"),
    [
        (Request("GET", None), ""),
        (Request("PUT", "b x/y"), "/b%20x%2Fy"),
        (Request("GET", "box", query="limit=1&marker=%C3%BC"), "/box?limit=1&marker=%C3%BC"),
        (Request("GET", "box", "a/b c~%"), "/box/a/b%20c~%25"),
        (Request("GET", "box", "?#", query="format=raw"), "/box/%3F%23?format=raw"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_the_url_of_a_request(asked: Request, rest: str) -> None:
    """Container and name are percent-encoded; the storage URL and the query stay as they are."""
    storage_url = "https://swift.example.org:8080/swift/v1/AUTH_x%3A"
    assert asked.url(storage_url) == (storage_url + rest).encode()
