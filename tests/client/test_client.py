"""The client against a real Swift, when nothing goes wrong."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from swift_provider.client import FileSource, SwiftClient
from swift_provider.errors import (
    ContainerNotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from tests.client.conftest import Sink

MakeFile = Callable[[bytes], FileSource]

#: Nothing, one byte, the limits of reading at once and of fetching whole, and beyond.
SIZES = [0, 1, 60_000, 64 * 1024, 64 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 3_000_000]


def content_of(size: int) -> bytes:
    """Bytes that no shift or repetition leaves the same."""
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_comes_back(
    client: SwiftClient, container: str, make_file: MakeFile, size: int
) -> None:
    """A file of any size is stored, described and delivered byte for byte."""
    content = content_of(size)
    put = await client.put_object(container, "ab/cd/file", make_file(content))
    head = await client.head_object(container, "ab/cd/file")
    assert put.etag == head.etag == hashlib.md5(content).hexdigest()
    assert put.size == head.size == size

    sink = Sink()
    download = await client.get_object(container, "ab/cd/file")
    assert download.info.size == size
    await download.deliver(sink)
    assert sink.content == content
    assert sink.events == ["registered", "unregistered"]


@pytest.mark.parametrize(
    "name", ["a b", "%41%2F", "ü/é/☃", "a//b", "a/../b", "?x=1&y#z", "+;:@[]'\"", "~tilde", "a/."]
)
async def test_any_name_is_kept(
    client: SwiftClient, container: str, make_file: MakeFile, name: str
) -> None:
    """Names with special characters reach Swift as they are."""
    await client.put_object(container, name, make_file(b"content"))
    names = [row.name async for page in client.list_objects(container) for row in page]
    assert names == [name]
    assert await client.delete_object(container, name)


async def test_a_missing_object_is_not_a_missing_container(
    client: SwiftClient, container: str
) -> None:
    """404 is told apart: the object, or the container it would be in."""
    with pytest.raises(ObjectNotFoundError):
        await client.get_object(container, "nothing")
    with pytest.raises(ContainerNotFoundError, match="no-such-container"):
        await client.get_object("no-such-container", "nothing")
    with pytest.raises(ContainerNotFoundError):
        await client.head_object("no-such-container", "nothing")
    with pytest.raises(ContainerNotFoundError):
        await client.head_container("no-such-container")


async def test_a_put_into_a_missing_container_says_so(
    client: SwiftClient, make_file: MakeFile
) -> None:
    """Uploads name the container, not the object, as what is missing."""
    for size in (10, 1_000_000):
        with pytest.raises(ContainerNotFoundError, match="create_container"):
            await client.put_object("no-such-container", "name", make_file(content_of(size)))


async def test_delete_says_whether_there_was_something(
    client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """A second deletion is no error."""
    await client.put_object(container, "gone", make_file(b"x"))
    assert await client.delete_object(container, "gone") is True
    assert await client.delete_object(container, "gone") is False


async def test_if_absent_does_not_overwrite(
    client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """A conditional upload leaves what is there alone, for small and for large files."""
    for size in (10, 2_000_000):
        name = f"object-{size}"
        await client.put_object(container, name, make_file(b"first"), if_absent=True)
        with pytest.raises(ObjectExistsError):
            await client.put_object(container, name, make_file(content_of(size)), if_absent=True)
        assert (await client.head_object(container, name)).size == len(b"first")


async def test_a_listing_is_whole_and_sorted(
    client: SwiftClient, container: str, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages follow each other to the end, and a prefix selects."""
    monkeypatch.setattr("swift_provider.client.client.PAGE_ROWS", 3)
    source = make_file(b"content")
    for number in range(8):
        await client.put_object(container, f"a/{number}", source)
    await client.put_object(container, "b/0", source)
    pages = [page async for page in client.list_objects(container, prefix="a/")]
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [row.name for page in pages for row in page] == [f"a/{n}" for n in range(8)]
    assert {row.etag for page in pages for row in page} == {hashlib.md5(b"content").hexdigest()}


async def test_same_content_is_told_from_the_same_length(
    client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """An object is compared with a file by length and MD5."""
    info = await client.put_object(container, "one", make_file(b"content"))
    assert await client.same_content(info, container, make_file(b"content"))
    assert not await client.same_content(info, container, make_file(b"c0ntent"))
    assert not await client.same_content(info, container, make_file(b"content."))


async def test_an_abandoned_download_leaves_nothing(
    client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """Whoever does not want the body after all gives slot and connection back."""
    await client.put_object(container, "large", make_file(content_of(3_000_000)))
    download = await client.get_object(container, "large")
    assert client.slots.in_flight == 1
    download.abandon()
    download.abandon()
    assert client.slots.in_flight == 0


async def test_a_container_is_made_and_made_again(client: SwiftClient) -> None:
    """Creating a container that exists is no error."""
    await client.create_container("tests-made-twice")
    await client.create_container("tests-made-twice")
    await client.head_container("tests-made-twice")
