"""Uploads, listings and deletions on Ceph RGW, as its stand-in answers them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from swift_provider.client import Place, SwiftClient
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    DamagedError,
    InsufficientStorageError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    RequestRefusedError,
)
from tests.client.trouble import SHORT_PATIENCE, MakeFile, content_of, stored
from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import Stored
from tests.servers.stand_in_objects import Objects

MIB = 1024 * 1024
SIZE = 2 * MIB + 777


@pytest_twisted.async_yield_fixture
async def rgw() -> AsyncIterator[RgwStandIn]:
    server = RgwStandIn(reactor)
    await server.start()
    yield server
    await server.stop()


@pytest_twisted.async_yield_fixture
async def client(
    rgw: RgwStandIn, make_client: Callable[..., SwiftClient]
) -> AsyncIterator[SwiftClient]:
    """A client of the stand-in, with the container ``box``."""
    user, key = rgw.credentials
    client = make_client(
        container="box",
        auth_type="v1password",
        auth={"auth_url": rgw.auth_url, "username": user, "password": key},
        region_name=None,
        segment_size=MIB,
        patience=SHORT_PATIENCE,
    )
    await Place(client, "box").create()
    yield client


@pytest.fixture
def container() -> str:
    """The container that ``client`` made."""
    return "box"


@pytest.mark.parametrize("size", [0, 100, 600_000])
async def test_an_object_is_stored_and_deleted(
    store: Place, rgw: RgwStandIn, make_file: MakeFile, size: int
) -> None:
    """An object is stored, compared and deleted."""
    content = content_of(size)
    info = await store.put("a/b", make_file(content))
    assert info.etag == hashlib.md5(content).hexdigest()
    assert rgw.containers["box"].objects["a/b"].data == content
    head = await store.head("a/b")
    assert await store.same_content(head, make_file(content))
    assert await store.delete("a/b") is True
    assert await store.delete("a/b") is False


async def test_a_large_file(store: Place, rgw: RgwStandIn, make_file: MakeFile) -> None:
    """A large file is stored in segments, compared, read and deleted."""
    content = content_of(SIZE)
    info = await store.put("big", make_file(content))
    parts = [content[at : at + MIB] for at in range(0, SIZE, MIB)]
    digests = "".join(hashlib.md5(part).hexdigest() for part in parts)
    assert info.etag == hashlib.md5(digests.encode()).hexdigest()
    segments = rgw.containers["box_segments"].objects
    assert [stored.data for _, stored in sorted(segments.items())] == parts
    head = await store.head("big")
    assert head.static_large
    assert await store.same_content(head, make_file(content))
    assert not await store.same_content(head, make_file(content[:-1] + b"?"))
    assert await stored(store, "big") == content
    assert ("GET", "/swift/info") in rgw.requests
    assert await store.delete("big") is True
    assert not segments
    assert not rgw.containers["box"].objects


async def test_a_copied_manifest(
    client: SwiftClient, store: Place, rgw: RgwStandIn, make_file: MakeFile
) -> None:
    """A copy of a large object has the segments of the original, which stay."""
    content = content_of(SIZE)
    await store.put("big", make_file(content))
    await Place(client, "copies").create()
    objects = rgw.containers["box"].objects
    rgw.containers["copies"].objects["big"] = objects["copied"] = objects["big"]
    assert await Place(client, "copies").delete("big") is True
    assert await store.delete("copied") is True
    assert rgw.containers["copies"].objects == {}
    assert list(objects) == ["big"]
    assert await stored(store, "big") == content


async def test_others_large_objects_prove_nothing(
    store: Place, rgw: RgwStandIn, make_file: MakeFile
) -> None:
    """An object whose segment sizes are not known is never said to have the same content."""
    content = content_of(SIZE)
    await store.put("big", make_file(content))
    del rgw.containers["box"].objects["big"].metadata["x-object-meta-segment-size"]
    head = await store.head("big")
    assert not await store.same_content(head, make_file(content))


async def test_conditions_are_ignored(store: Place, rgw: RgwStandIn, make_file: MakeFile) -> None:
    """RGW overwrites in spite of ``if_absent``; for a large file the client asks first."""
    await store.put("name", make_file(b"first"))
    await store.put("name", make_file(b"second"), if_absent=True)
    assert rgw.containers["box"].objects["name"].data == b"second"
    with pytest.raises(ObjectExistsError):
        await store.put("name", make_file(content_of(SIZE)), if_absent=True)
    assert "box_segments" not in rgw.containers


async def test_limits_and_quotas(store: Place, rgw: RgwStandIn, make_file: MakeFile) -> None:
    """400 ``EntityTooLarge`` means too large, 413 ``QuotaExceeded`` means a quota."""
    rgw.max_object_bytes = 1000
    with pytest.raises(ObjectTooLargeError, match="segment_size"):
        await store.put("name", make_file(content_of(1001)))
    rgw.quota_bytes = 500
    with pytest.raises(InsufficientStorageError, match="quota"):
        await store.put("name", make_file(content_of(501)))


async def test_an_info_that_does_not_help(
    store: Place, rgw: RgwStandIn, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If ``/info`` does not name the limits, the usual ones hold."""
    from tests.servers import stand_in
    from tests.servers.stand_in_model import Reply

    monkeypatch.setattr(stand_in, "_info", lambda: Reply(200, b'{"swift": {}, "slo": {}}'))
    await store.put("big", make_file(content_of(SIZE)))
    assert ("GET", "/swift/info") in rgw.requests
    assert len(rgw.containers["box_segments"].objects) == 3


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"<?xml version='1.0'?>"), (200, b"not JSON"), (200, b"[]")]
)
async def test_no_info(
    store: Place,
    rgw: RgwStandIn,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
) -> None:
    """If ``/info`` is missing or unreadable, the usual limits hold."""
    from tests.servers import stand_in
    from tests.servers.stand_in_model import Reply

    monkeypatch.setattr(stand_in, "_info", lambda: Reply(status, body))
    await store.put("big", make_file(content_of(SIZE)))
    assert ("GET", "/swift/info") in rgw.requests
    assert len(rgw.containers["box_segments"].objects) == 3


async def test_pages_are_shorter_than_asked_for(store: Place, rgw: RgwStandIn) -> None:
    """A page with fewer rows than asked for is not the last."""
    held = rgw.containers["box"].objects
    for number in range(2500):
        held[f"{number:05}"] = Stored(b"", hashlib.md5(b"").hexdigest(), 0.0)
    pages = [page async for page in store.list()]
    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert [row.name for page in pages for row in page] == sorted(held)


async def test_missing_things_are_named(
    client: SwiftClient, store: Place, rgw: RgwStandIn, make_file: MakeFile
) -> None:
    """The body of RGW's 404 says what is missing, so no other request is sent."""
    rgw.requests.clear()
    with pytest.raises(ObjectNotFoundError):
        await store.get("nothing")
    with pytest.raises(ContainerNotFoundError):
        await Place(client, "nowhere").get("nothing")
    assert [method for method, _ in rgw.requests] == ["GET", "GET"]
    with pytest.raises(ContainerNotFoundError, match="nowhere"):
        await Place(client, "nowhere").put("name", make_file(b"x"))


async def test_somebody_elses_container(client: SwiftClient, rgw: RgwStandIn) -> None:
    """A container of another account can neither be created nor read."""
    rgw.taken.add("theirs")
    with pytest.raises(RequestRefusedError, match="BucketAlreadyExists"):
        await Place(client, "theirs").create()
    with pytest.raises(AccessDeniedError):
        await Place(client, "theirs").head("name")


async def test_a_dropped_token_is_replaced(
    store: Place, rgw: RgwStandIn, make_file: MakeFile
) -> None:
    """A 401 without ``WWW-Authenticate`` leads to a new token."""
    await store.put("one", make_file(b"x"))
    rgw.tokens.clear()
    await store.put("two", make_file(content_of(600_000)))
    assert rgw.containers["box"].objects["two"].data == content_of(600_000)


async def test_a_manifest_that_is_stored_as_it_is(
    store: Place, rgw: RgwStandIn, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the cluster stores the manifest as a plain object, it is removed: it would be
    served in the place of the file. The segments stay, as Swift has not refused it.
    """

    def as_it_is(objects: Objects, asked: Any) -> Any:
        asked.query.pop("multipart-manifest")
        return objects._put(asked)

    monkeypatch.setattr(Objects, "_put_manifest", as_it_is)
    with pytest.raises(DamagedError):
        await store.put("big", make_file(content_of(SIZE)))
    assert not rgw.containers["box"].objects
    assert rgw.containers["box_segments"].objects
