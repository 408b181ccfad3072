"""Small files that many users ask for, through a real Synapse."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from twisted.internet.threads import deferToThread

from swift_provider.module.shared_requests import SHARE_SECONDS
from tests.module.conftest import Servers
from tests.module.homeservers import Homeserver, media_path, there
from tests.servers import process
from tests.servers.faults import BEFORE_RESPONSE, ON_REQUEST, Stall

MANY = 50


async def test_hot_file(servers: Servers) -> None:
    """After two requests a small file comes from memory, and the metrics tell of it."""
    content = b"hot" * 1000
    uri = await there(servers.here.user.upload, content)
    servers.here.lose_disk()
    before = await there(_metrics, servers)
    for _ in range(5):
        assert await there(servers.here.user.download, uri) == content
    assert _requests(servers, uri) == ["GET", "GET"]
    after = await there(_metrics, servers)
    grown = {name: value - before[name] for name, value in after.items()}
    assert (grown["miss"], grown["hit"], grown["shared"]) == (2, 3, 0)
    assert grown["files"] == 1
    assert len(content) < grown["bytes"] < len(content) + 2000


async def test_many_at_once(servers: Servers) -> None:
    """Fifty clients that ask for one small file at the same time cause one GET."""
    content = b"at once" * 700
    uri = await there(servers.here.user.upload, content)
    servers.here.lose_disk()
    before = await there(_metrics, servers)
    servers.proxy.add(stall := Stall(BEFORE_RESPONSE, match=("GET", "")))
    pool = ThreadPoolExecutor(MANY)
    try:
        downloads = [pool.submit(servers.here.user.download, uri) for _ in range(MANY)]
        await stall.happened()
        began = time.monotonic()
        await there(_wait_for_downloads, servers.here, MANY)
        stall.release()
        held = time.monotonic() - began
        assert {await there(download.result) for download in downloads} == {content}
    finally:
        pool.shutdown(wait=False)
    gets = _requests(servers, uri)
    assert gets == ["GET"] * len(gets)
    assert len(gets) == 1 or (len(gets) == 2 and held > SHARE_SECONDS - 1)
    after = await there(_metrics, servers)
    grown = {name: value - before[name] for name, value in after.items()}
    assert grown["miss"] == len(gets)
    # A client whose request Synapse has begun may still be too late to share the GET.
    assert grown["shared"] + grown["hit"] == MANY - len(gets)
    assert grown["shared"] > MANY / 2


async def test_clients_hang_up(servers: Servers) -> None:
    """Clients that disconnect while they wait for one GET, the first one too, harm no others."""
    uri = await there(servers.here.user.upload, b"wanted")
    servers.here.lose_disk()
    servers.proxy.add(stall := Stall(BEFORE_RESPONSE, match=("GET", "")))
    with ExitStack() as stack:
        gone = [stack.enter_context(_ask(servers.here, uri)) for _ in range(3)]
        await stall.happened()
        staying = deferToThread(servers.here.user.download, uri)
        await there(_wait_for_downloads, servers.here, 4)
        for client in gone:
            client.close()
        stall.release()
        assert await staying == b"wanted"
    assert _requests(servers, uri) == ["GET"]
    await servers.proxy.wait_idle()


async def test_one_is_cancelled(servers: Servers) -> None:
    """Synapse may cancel one of two requests that share a GET."""
    uri = await there(servers.here.user.upload, b"one of two")
    path = media_path(uri)
    servers.proxy.requests.clear()
    answer = await there(servers.here.probe, "fetch_twice_and_cancel_one", servers.main, path)
    assert answer.json() == {"result": True, "kept_context": True}
    assert [seen.method for seen in servers.proxy.requests if seen.method == "GET"] == ["GET"]


async def test_deleted_file(servers: Servers) -> None:
    """A file that the provider deletes is no longer served from memory."""
    uri = await there(servers.here.user.upload, b"delete me")
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    servers.here.lose_disk()
    for _ in range(3):
        assert await there(servers.here.user.download, uri) == b"delete me"
    for container in (servers.main, servers.second):
        await there(servers.here.probe, "delete", container, path)
    assert await there(servers.here.download_status, uri) == 404


async def test_downloads_during_a_deletion(servers: Servers) -> None:
    """Downloads between the beginning and the end of a deletion do not keep the file."""
    uri = await there(servers.here.user.upload, b"going")
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    await there(servers.storage.delete, servers.second, path)
    servers.here.lose_disk()
    servers.proxy.add(stall := Stall(ON_REQUEST, match=("DELETE", path)))
    deleting = deferToThread(servers.here.probe, "delete", servers.main, path)
    await stall.happened()
    for _ in range(3):
        assert await there(servers.here.user.download, uri) == b"going"
    stall.release()
    assert (await deleting).json() == {"result": None, "kept_context": True}
    assert await there(servers.here.download_status, uri) == 404


@pytest.mark.parametrize("waits", [True, False])
async def test_replaced_file(servers: Servers, waits: bool) -> None:
    """A file that Synapse stores again, with other bytes, is served with these."""
    container = servers.main if waits else servers.second
    uri = await there(servers.here.user.upload, b"before")
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    if not waits:
        await there(servers.storage.delete, servers.main, f"matrix/{path}")
    servers.here.lose_disk()
    for _ in range(3):
        assert await there(servers.here.user.download, uri) == b"before"
    local = servers.here.media_store / path
    local.parent.mkdir(parents=True, exist_ok=True)
    local.write_bytes(b"after!")
    servers.proxy.add(stall := Stall(ON_REQUEST, match=("PUT", path)))
    storing = deferToThread(servers.here.probe, "store", container, path)
    await stall.happened()
    local.unlink()
    for _ in range(3):
        assert await there(servers.here.user.download, uri) == b"before"
    stall.release()
    await storing
    await servers.proxy.wait_idle()
    assert await there(servers.here.user.download, uri) == b"after!"


def _requests(servers: Servers, uri: str) -> list[str]:
    """The methods of the requests for these media since the upload."""
    path = media_path(uri)
    methods = [seen.method for seen in servers.proxy.requests if seen.path.endswith(path)]
    return [method for method in methods if method != "PUT"]


def _metrics(servers: Servers) -> dict[str, float]:
    """Of the main container's memory: each result, the bytes and the files."""
    found = {}
    for name, value in servers.here.metrics().items():
        if "_memory_" in name and f'container="{servers.main}"' in name:
            result = re.search(r'result="(\w+)"', name)
            gauge = re.search(r"_memory_(bytes|files)\{", name)
            if result or gauge:
                found[(result or gauge)[1]] = value  # type: ignore[index]
    assert set(found) == {"hit", "miss", "shared", "bytes", "files"}
    return found


def _wait_for_downloads(homeserver: Homeserver, count: int) -> None:
    """Wait until Synapse handles that many downloads."""
    begun = re.compile(
        r"^synapse_http_server_in_flight_requests_count\{.*Download.*\} (\S+)", re.MULTILINE
    )
    deadline = time.monotonic() + 20
    while True:
        text = homeserver._session.get(f"{homeserver.url}/_synapse/metrics", timeout=30).text
        if sum(float(value) for value in begun.findall(text)) >= count:
            return
        assert time.monotonic() < deadline, begun.findall(text)
        time.sleep(process.POLL_SECONDS)


def _ask(homeserver: Homeserver, uri: str) -> socket.socket:
    """A connection on which media were asked for."""
    client = socket.create_connection((process.LOOPBACK, homeserver.port), timeout=30)
    client.sendall(
        f"GET /_matrix/client/v1/media/download/{uri.removeprefix('mxc://')} HTTP/1.1\r\n"
        f"Host: localhost\r\nAuthorization: Bearer {homeserver.admin_token}\r\n\r\n".encode()
    )
    return client
