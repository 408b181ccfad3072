"""HEAD requests of Matrix clients, through real homeservers."""

from __future__ import annotations

import pytest

from tests.module.conftest import Servers
from tests.module.homeservers import OUTAGE, media_path, there
from tests.module.test_faults import forget_thumbnails, noise
from tests.servers.faults import Answer

BIG = bytes(range(256)) * 80_000  # 20 MB


async def stored(servers: Servers, content: bytes, kind: str = "image/png") -> str:
    """Media that are in Swift only; the proxy has nothing left to do."""
    uri = await there(servers.here.user.upload, content, kind)
    await there(servers.storage.wait_for, servers.second, media_path(uri))
    servers.here.lose_disk()
    await servers.proxy.wait_idle()
    servers.proxy.requests.clear()
    return uri


@pytest.mark.parametrize("authenticated", [True, False])
@pytest.mark.parametrize("content", [b"", b"small", BIG], ids=["empty", "small", "big"])
async def test_head_reads_no_body(servers: Servers, content: bytes, authenticated: bool) -> None:
    """HEAD has the headers of GET, and nothing of the object comes from Swift."""
    uri = await stored(servers, content)
    if not authenticated:
        servers.here.make_public(uri)
    before = servers.proxy.bytes_to_client
    request = servers.here.user.request
    head = await there(request, "HEAD", uri, authenticated=authenticated)
    assert servers.proxy.bytes_to_client - before < 2000
    assert [seen.method for seen in servers.proxy.requests] == ["HEAD"]
    get = await there(request, "GET", uri, authenticated=authenticated)
    assert (head.status_code, get.status_code) == (200, 200)
    assert (head.content, get.content) == (b"", content)
    assert head.headers["Content-Length"] == str(len(content))
    assert without_date(head.headers) == without_date(get.headers)


async def test_head_of_a_thumbnail(servers: Servers) -> None:
    """HEAD of a thumbnail that is in Swift reads nothing of it."""
    uri = await stored(servers, noise())
    query = {"kind": "thumbnail", "width": 96, "height": 96, "method": "scale"}
    head = await there(servers.here.user.request, "HEAD", uri, **query)
    assert {seen.method for seen in servers.proxy.requests} == {"HEAD"}
    get = await there(servers.here.user.request, "GET", uri, **query)
    assert without_date(head.headers) == without_date(get.headers)
    assert head.headers["Content-Length"] == str(len(get.content))


async def test_head_of_a_thumbnail_that_has_to_be_made(servers: Servers) -> None:
    """The original is pulled back to the disk, whole."""
    content = noise()
    uri = await stored(servers, content)
    path = media_path(uri)
    await there(forget_thumbnails, servers, path)
    query = {"kind": "thumbnail", "width": 96, "height": 96, "method": "scale"}
    head = await there(servers.here.user.request, "HEAD", uri, **query)
    assert head.status_code == 200
    assert (servers.here.media_store / path).read_bytes() == content
    assert [file.name for file in (servers.here.media_store / path).parent.iterdir()] == [
        path.rsplit("/", 1)[1]
    ]


async def test_head_of_what_is_not_there(servers: Servers) -> None:
    """404 if Swift has no such object, 503 if Swift is unreachable."""
    uri = await stored(servers, b"forgotten")
    path = media_path(uri)
    outage = Answer(match=("HEAD", path), **OUTAGE)
    servers.proxy.add(outage)
    assert (await there(servers.here.user.request, "HEAD", uri)).status_code == 503
    servers.proxy.clear()
    for container, name in ((servers.main, f"matrix/{path}"), (servers.second, path)):
        await there(servers.storage.delete, container, name)
    assert (await there(servers.here.user.request, "HEAD", uri)).status_code == 404


def without_date(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Date"}
