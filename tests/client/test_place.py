"""A store against a real Swift, when nothing goes wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from swift_provider.client import Place, SwiftClient
from swift_provider.errors import ContainerNotFoundError, ObjectNotFoundError
from tests.client.conftest import Faulty, Sink
from tests.client.trouble import MakeFile, content_of, puts, stored

#: Nothing, one byte, the limits of reading at once and of fetching whole, and beyond.
SIZES = [0, 1, 60_000, 64 * 1024, 64 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_comes_back(store: Place, make_file: MakeFile, size: int) -> None:
    """A file of any size is stored, described and delivered byte for byte."""
    content = content_of(size)
    put = await store.put("ab/cd/file", make_file(content))
    head = await store.head("ab/cd/file")
    assert put.etag == head.etag == hashlib.md5(content).hexdigest()
    assert put.size == head.size == size

    sink = Sink()
    download = await store.get("ab/cd/file")
    assert download.info.size == size
    await download.deliver(sink)
    assert sink.content == content
    assert sink.events == ["registered", "unregistered"]


async def test_a_missing_object_is_not_a_missing_container(
    client: SwiftClient, store: Place
) -> None:
    """A missing object and a missing container are different errors."""
    with pytest.raises(ObjectNotFoundError):
        await store.get("nothing")
    with pytest.raises(ContainerNotFoundError, match="no-such-container"):
        await Place(client, "no-such-container").get("nothing")
    with pytest.raises(ContainerNotFoundError):
        await Place(client, "no-such-container").head("nothing")
    with pytest.raises(ContainerNotFoundError):
        await Place(client, "no-such-container").check()


async def test_a_put_into_a_missing_container_says_so(
    client: SwiftClient, make_file: MakeFile
) -> None:
    """The error of an upload names the missing container."""
    for size in (10, 1_000_000):
        with pytest.raises(ContainerNotFoundError, match="create_container"):
            await Place(client, "no-such-container").put("name", make_file(content_of(size)))


async def test_delete_says_whether_there_was_something(store: Place, make_file: MakeFile) -> None:
    """``delete`` says whether the object existed; a second deletion is no error."""
    await store.put("gone", make_file(b"x"))
    assert await store.delete("gone") is True
    assert await store.delete("gone") is False


async def test_same_content_is_told_from_the_same_length(store: Place, make_file: MakeFile) -> None:
    """An object is compared with a file by length and MD5."""
    info = await store.put("one", make_file(b"content"))
    assert await store.same_content(info, make_file(b"content"))
    assert not await store.same_content(info, make_file(b"c0ntent"))
    assert not await store.same_content(info, make_file(b"content."))


async def test_a_link_is_told_from_the_object_itself(
    store: Place, container: str, make_file: MakeFile
) -> None:
    """By account, container and name, as Swift gives the place; a version is the object itself."""
    await store.put("ab/ü c", make_file(b"content"))
    info = await store.head("ab/ü c")
    account = (await store.storage_url()).rpartition("/")[2]
    links = {
        f"/v1/{account}/{container}/ab/ü c": False,
        f"/v1/{account}/{container}/ab/other": True,
        f"/v1/{account}/x{container}/ab/ü c": True,
        f"/v1/x{account}/{container}/ab/ü c": True,
    }
    for place, is_link in links.items():
        flaw = await store.flaw(replace(info, content_location=place))
        assert (flaw is not None) == is_link, place


async def test_an_abandoned_download_leaves_nothing(
    client: SwiftClient, store: Place, make_file: MakeFile
) -> None:
    """An abandoned download releases its slot at once."""
    await store.put("large", make_file(content_of(3_000_000)))
    download = await store.get("large")
    assert client.slots.in_flight == 1
    download.abandon()
    download.abandon()
    assert client.slots.in_flight == 0


async def test_a_container_is_made_and_made_again(client: SwiftClient) -> None:
    """Creating a container that exists is no error."""
    await Place(client, "tests-made-twice").create()
    await Place(client, "tests-made-twice").create()
    await Place(client, "tests-made-twice").check()


async def test_what_has_no_body_says_so(faulty: Faulty, container: str) -> None:
    """A PUT without a body has ``Content-Length: 0``."""
    await faulty.store(container).create()
    assert puts(faulty)[0].headers["content-length"] == "0"


async def test_a_prefix_is_put_before_each_name(
    client: SwiftClient, store: Place, container: str, make_file: MakeFile
) -> None:
    """A store with a prefix sees only its own objects, under names without the prefix."""
    inner = Place(client, container, "media/")
    assert inner.object_name("ab/c") == "media/ab/c"
    await store.put("other", make_file(b"theirs"))
    await inner.put("ab/c", make_file(b"ours"))
    assert (await store.head("media/ab/c")).size == 4
    assert await stored(inner, "ab/c") == b"ours"
    assert [row.name async for page in inner.list() for row in page] == ["ab/c"]
    assert [row.name async for page in inner.list("ab/") for row in page] == ["ab/c"]
    assert [row.name async for page in inner.list("c") for row in page] == []
    assert await inner.delete("other") is False
    assert await inner.delete("ab/c") is True
    assert [row.name async for page in store.list() for row in page] == ["other"]
