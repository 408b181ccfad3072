"""What is stored names the homeserver that stored it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote
from uuid import uuid4

import pytest

from swift_provider.client import Place, SwiftClient
from tests.client.trouble import MakeFile, content_of

MIB = 1024 * 1024


@pytest.mark.parametrize("owner", ["here.example", "[2001:db8::1]:8448", "löcal"])
async def test_a_plain_object(
    client: SwiftClient, container: str, make_file: MakeFile, owner: str
) -> None:
    """The mark is read back as it was; the next upload replaces it."""
    await Place(client, container, owner=owner).put("name", make_file(b"content"))
    assert (await Place(client, container).head("name")).owner == owner
    await Place(client, container, owner="there.example").put("name", make_file(b"content"))
    assert (await Place(client, container).head("name")).owner == "there.example"
    await Place(client, container).put("name", make_file(b"content"))
    assert (await Place(client, container).head("name")).owner == ""


@pytest.mark.parametrize("owner", ["here.example", None])
async def test_a_large_object(
    make_client: Callable[..., SwiftClient], make_file: MakeFile, owner: str | None
) -> None:
    """The manifest and each segment have the mark; a segment names its manifest's container."""
    container = f"tésts {uuid4().hex[:12]}"
    client = make_client(segment_size=MIB, segment_container=f"{container}_segments")
    store = Place(client, container, "p/", owner)
    await store.create()
    await store.put("name", make_file(content_of(2 * MIB + 1)))
    info = await store.head("name")
    assert info.static_large
    assert (info.owner, info.manifest_container) == (owner or "", "")
    rows = [row async for page in store.segments.list() for row in page]
    assert [row.name for row in rows] == [f"name/{info.attempt}/{n:08d}" for n in range(3)]
    for row in rows:
        segment = await store.segments.head(row.name)
        assert (segment.owner, segment.manifest_container) == (owner or "", container)


async def test_a_container_whose_name_no_metadata_can_hold(
    make_client: Callable[..., SwiftClient], make_file: MakeFile
) -> None:
    """Its segments are stored without that mark."""
    container = "é" * 60
    assert len(quote(container)) > 256
    client = make_client(segment_size=MIB, segment_container=f"{container}_segments")
    store = Place(client, container, owner="here.example")
    await store.create()
    await store.put("name", make_file(content_of(MIB + 1)))
    rows = [row async for page in store.segments.list() for row in page]
    segment = await store.segments.head(rows[0].name)
    assert (segment.owner, segment.manifest_container) == ("here.example", "")
