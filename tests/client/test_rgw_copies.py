"""Copies to and from Ceph RGW, as its stand-in answers."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from swift_provider.client import Place, SwiftClient, copy
from swift_provider.client.drained import drained
from swift_provider.client.request import Request
from swift_provider.errors import DamagedError, KeptError
from tests.client.test_copying import put_slo
from tests.client.trouble import (
    MIB,
    SHORT_PATIENCE,
    MakeFile,
    begin,
    content_of,
    slo_etag,
    soon,
    stored,
)
from tests.servers.stand_in import RgwStandIn

SIZE = 3 * MIB + 12_345


@pytest_twisted.async_yield_fixture
async def rgw() -> AsyncIterator[RgwStandIn]:
    server = RgwStandIn(reactor)
    await server.start()
    yield server
    await server.stop()


@pytest_twisted.async_yield_fixture
async def ceph(rgw: RgwStandIn, make_client: Callable[..., SwiftClient]) -> AsyncIterator[Place]:
    """A container of the stand-in; one request at a time."""
    user, key = rgw.credentials
    client = make_client(
        container="box",
        auth_type="v1password",
        auth={"auth_url": rgw.auth_url, "username": user, "password": key},
        region_name=None,
        segment_size=MIB,
        threadpool_size=1,
        patience=SHORT_PATIENCE,
    )
    place = Place(client, "box", owner="here.example")
    await place.create()
    yield place


@pytest.fixture
def openstack(make_client: Callable[..., SwiftClient], container: str) -> Place:
    """A container of the real Swift."""
    options: dict[str, Any] = {"segment_container": f"{container}_segments", "segment_size": MIB}
    client = make_client(threadpool_size=1, patience=SHORT_PATIENCE, **options)
    return Place(client, container, owner="here.example")


@pytest.mark.parametrize("size", [0, 100, 300_000, SIZE])
@pytest.mark.parametrize("to_ceph", [True, False])
async def test_there_and_back(
    ceph: Place, openstack: Place, make_file: MakeFile, size: int, to_ceph: bool
) -> None:
    """The copy has the same bytes, marks and ETag; a large object the same segments."""
    source, target = (openstack, ceph) if to_ceph else (ceph, openstack)
    content = content_of(size)
    original = await source.put("name", make_file(content))
    info = await soon(begin(copy(source, target, "name")))
    assert info.etag == original.etag
    found = await target.head("name")
    assert found.static_large == (size == SIZE)
    assert (found.owner, found.content_crc32) == ("here.example", zlib.crc32(content))
    assert await stored(target, "name") == content
    assert await target.flaw(found) is None
    if size == SIZE:
        assert info.etag == slo_etag(content)
        assert found.segment_size == MIB


async def test_a_manifest_that_is_not_shown(
    ceph: Place, openstack: Place, rgw: RgwStandIn, make_file: MakeFile
) -> None:
    """How another program cut the object cannot be known, so it is not copied."""
    await ceph.put("name", make_file(content_of(SIZE)))
    metadata = rgw.containers["box"].objects["name"].metadata
    del metadata["x-object-meta-segment-size"]
    with pytest.raises(KeptError, match="does not show"):
        await soon(begin(copy(ceph, openstack, "name")))


@pytest.mark.parametrize("sizes", [[2 * MIB, MIB, 2 * MIB], [500_000] * 3], ids=["uneven", "small"])
async def test_a_cut_that_no_metadata_tell(
    ceph: Place, openstack: Place, make_file: MakeFile, sizes: list[int]
) -> None:
    """Ceph shows no manifest: the object is cut anew, so that the copy can be relied on."""
    content = await put_slo(openstack, "name", sizes)
    headers = {b"X-Object-Meta-Content-Crc32": f"{zlib.crc32(content):08x}".encode()}
    note = Request("POST", openstack.container, "name", headers=headers)
    await openstack.client.requester.perform(note, drained)
    await soon(begin(copy(openstack, ceph, "name")))
    found = await ceph.head("name")
    assert await ceph.flaw(found) is None
    assert await stored(ceph, "name") == content


async def test_a_segment_that_is_damaged(
    ceph: Place, openstack: Place, rgw: RgwStandIn, make_file: MakeFile
) -> None:
    """No MD5 of a segment is known: the ETag of the whole finds it, and nothing is left."""
    await ceph.put("name", make_file(content_of(SIZE)))
    segments = rgw.containers["box_segments"].objects
    first = segments[min(segments)]
    first.data = bytes(len(first.data))
    with pytest.raises(DamagedError, match="GET box/name"):
        await soon(begin(copy(ceph, openstack, "name")))
    assert [row async for page in openstack.list() for row in page] == []
    assert [row async for page in openstack.segments.list() for row in page] == []
