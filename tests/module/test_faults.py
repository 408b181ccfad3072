"""What users, other servers and the log see when Swift fails or a client disconnects."""

from __future__ import annotations

import io
import socket
import sqlite3
import time

import pytest
import requests
from PIL import Image
from requests.exceptions import ChunkedEncodingError

from tests.module.conftest import Servers
from tests.module.homeservers import OUTAGE, Homeserver, media_path, there
from tests.servers import process
from tests.servers.faults import ON_REQUEST, Answer, Reset, Stall, in_response

BIG = bytes(range(256)) * 12_000  # 3 MB


async def test_outage_is_answered_with_503(servers: Servers) -> None:
    """While Swift is unreachable, a client gets 503 and not 404."""
    uri = await there(servers.here.user.upload, b"patience")
    servers.here.lose_disk()
    servers.proxy.add(Answer(match=("GET", ""), **OUTAGE))
    assert await there(servers.here.download_status, uri) == 503
    (line,) = [line for line in servers.here.new_log() if " ERROR " in line]
    assert " GET-" in line, "the line carries the request's id"
    assert media_path(uri) in line
    servers.proxy.clear()
    assert await there(servers.here.user.download, uri) == b"patience"


async def test_missing_object_is_a_404_at_once(servers: Servers) -> None:
    """An object that Swift does not have is a 404: one request per provider, no log line."""
    uri = await there(servers.here.user.upload, b"forgotten")
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    for container, name in ((servers.main, f"matrix/{path}"), (servers.second, path)):
        await there(servers.storage.delete, container, name)
    servers.here.lose_disk()
    servers.here.new_log()
    servers.proxy.requests.clear()
    assert await there(servers.here.download_status, uri) == 404
    gets = [seen for seen in servers.proxy.requests if seen.method == "GET"]
    assert len(gets) == 2
    assert not [line for line in servers.here.new_log() if "swift_provider" in line]


async def test_short_outage_is_waited_for(servers: Servers) -> None:
    """The client does not see one 503; the log's line about it carries the request's id."""
    uri = await there(servers.here.user.upload, b"again")
    servers.here.lose_disk()
    servers.proxy.add(Answer(503, match=("GET", "")))
    assert await there(servers.here.user.download, uri) == b"again"
    (line,) = [line for line in servers.here.new_log() if "retrying in" in line]
    assert " GET-" in line


async def test_failed_upload_is_answered_with_503(servers: Servers) -> None:
    """If Synapse waits for Swift and Swift is unreachable, the upload fails with 503."""
    servers.proxy.add(Answer(match=("PUT", servers.main), **OUTAGE))
    with pytest.raises(requests.HTTPError, match="HTTP 503"):
        await there(servers.here.user.upload, b"not now")
    (line,) = [line for line in servers.here.new_log() if " ERROR " in line]
    assert " POST-" in line


async def test_failed_upload_in_the_background(servers: Servers) -> None:
    """If Synapse does not wait, the upload succeeds, and the log has one error."""
    fault = Answer(match=("PUT", servers.second), **OUTAGE)
    servers.proxy.add(fault)
    uri = await there(servers.here.user.upload, b"only in the first")
    await fault.happened()
    line = await there(_wait_for_line, servers.here, " ERROR ")
    assert media_path(uri) in line
    assert " swift_store-" in line


@pytest.mark.parametrize("is_away", [True, False])
async def test_files_that_are_gone_while_their_uploads_wait(
    servers: Servers, is_away: bool
) -> None:
    """If only one is gone, Synapse has deleted it. If the disk is away, the uploads failed."""
    hold = Stall(ON_REQUEST, times=None, match=("PUT", servers.second))
    servers.proxy.add(hold)
    # One more than may run at once.
    for number in range(41):
        uri = await there(servers.here.user.upload, b"%d" % number)
    path, folder = media_path(uri), servers.here.media_store / "local_content"
    away = folder.with_name("away")
    if is_away:
        folder.rename(away)
    else:
        (servers.here.media_store / path).unlink()
    servers.here.new_log()
    servers.proxy.clear()
    hold.release()
    line = await there(_wait_for_line, servers.here, path)
    if is_away:
        away.rename(folder)
    assert (" ERROR " if is_away else " WARNING ") in line
    assert ("it is no longer on the disk" in line) is not is_away


async def test_broken_body_goes_on(servers: Servers) -> None:
    """A download that breaks twice arrives whole."""
    uri = await there(servers.here.user.upload, BIG)
    servers.here.lose_disk()
    breaks = Reset(in_response(500_000), times=2, match=("GET", ""))
    servers.proxy.add(breaks)
    assert await there(servers.here.user.download, uri) == BIG
    assert breaks.fired == 2


async def test_client_sees_that_a_body_is_broken(servers: Servers) -> None:
    """If Swift fails for good in the middle, the client's connection is closed."""
    uri = await there(servers.here.user.upload, BIG)
    servers.here.lose_disk()
    _break_for_good(servers, uri)
    began = time.monotonic()
    with pytest.raises((requests.ConnectionError, ChunkedEncodingError)):
        await there(servers.here.user.download, uri)
    assert time.monotonic() - began < 20, "the client was not left waiting"


async def test_other_server_does_not_take_a_part_for_the_whole(servers: Servers) -> None:
    """If Swift fails for good in the middle, a federating server keeps and serves nothing of it."""
    uri = await there(servers.here.user.upload, BIG)
    name = uri.rsplit("/", 1)[1]
    servers.here.lose_disk()
    _break_for_good(servers, uri)
    began = time.monotonic()
    assert await there(servers.peer.download_status, uri) >= 500
    assert time.monotonic() - began < 20, "the other server was not left waiting"
    assert name not in await there(_remote_media, servers.peer)
    servers.proxy.clear()
    assert await there(servers.peer.user.download, uri) == BIG


async def test_part_of_a_file_does_not_stay_on_disk(servers: Servers) -> None:
    """If Swift fails for good during a pull-back, the incomplete file is removed."""
    content = noise()
    uri = await there(servers.here.user.upload, content, "image/png")
    path = media_path(uri)
    await there(forget_thumbnails, servers, path)
    servers.here.lose_disk()
    _break_for_good(servers, uri, after=len(content) // 2)
    with pytest.raises(requests.HTTPError, match="HTTP 503"):
        await there(servers.here.user.thumbnail, uri, 96, 96)
    assert not (servers.here.media_store / path).exists()
    servers.proxy.clear()
    servers.here.new_log()
    assert await there(servers.here.user.thumbnail, uri, 96, 96)
    assert (servers.here.media_store / path).read_bytes() == content


async def test_client_hangs_up(servers: Servers) -> None:
    """A client that disconnects in the middle causes no ERROR line, and nothing stays open."""
    uri = await there(servers.here.user.upload, BIG * 8)
    await there(servers.storage.wait_for, servers.second, media_path(uri))
    servers.here.lose_disk()
    await servers.proxy.wait_idle()
    servers.here.new_log()
    await there(_read_a_little, servers.here, uri)
    await servers.proxy.wait_idle()
    lines = await there(_lines_until, servers.here, "Processed request")
    assert not [line for line in lines if " ERROR " in line]
    assert await there(_in_flight, servers) == [0, 0]


async def test_unused_responder_releases_everything(servers: Servers) -> None:
    """A file that Synapse asks for and does not read leaves no request in flight."""
    uri = await there(servers.here.user.upload, BIG)
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    await servers.proxy.wait_idle()
    answer = await there(servers.here.probe, "fetch_and_leave", servers.main, path)
    assert answer.json() == {"result": True, "kept_context": True}
    await servers.proxy.wait_idle()
    assert await there(_in_flight, servers) == [0, 0]


async def test_delete(servers: Servers) -> None:
    """Deleting removes the object and its segments; deleting it again succeeds."""
    uri = await there(servers.here.user.upload, b"delete" * 400_000)
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    for _ in range(2):
        answer = await there(servers.here.probe, "delete", servers.second, path)
        assert answer.json() == {"result": None, "kept_context": True}
    assert path not in await there(servers.storage.names, servers.second)
    segments = await there(servers.storage.names, f"{servers.second}_segments")
    assert not [name for name in segments if path in name]
    servers.proxy.add(Answer(match=(None, servers.second), **OUTAGE))
    answer = await there(servers.here.probe, "delete", servers.second, path)
    assert answer.status_code == 503


async def test_delete_is_cancelled(servers: Servers) -> None:
    """Cancelling a deletion does not cancel the upload that it waits for."""
    stall = Stall(ON_REQUEST, match=("PUT", servers.second))
    servers.proxy.add(stall)
    path = media_path(await there(servers.here.user.upload, b"stays"))
    await stall.happened()
    answer = await there(servers.here.probe, "delete_and_cancel", servers.second, path)
    assert answer.json() == {"result": True, "kept_context": True}
    stall.release()
    await there(servers.storage.wait_for, servers.second, path)
    assert not [line for line in servers.here.new_log() if " ERROR " in line]


def noise() -> bytes:
    """A PNG that is too large to be fetched whole before it is delivered."""
    file = io.BytesIO()
    Image.effect_noise((800, 800), 100).save(file, "PNG")
    assert file.tell() > 4 * 64 * 1024, "the client reads up to 64 KiB before it delivers"
    return file.getvalue()


def _break_for_good(servers: Servers, uri: str, after: int = 500_000) -> None:
    """The next download of these media breaks after so many bytes, and cannot go on."""
    path = media_path(uri)
    servers.proxy.add(
        Reset(in_response(after), match=("GET", f"{servers.main}/matrix/{path}")),
        Answer(match=("GET", path), **OUTAGE),
    )


def _wait_for_line(homeserver: Homeserver, part: str) -> str:
    """The first new line of the log with this in it."""
    return next(line for line in _lines_until(homeserver, part) if part in line)


def _lines_until(homeserver: Homeserver, part: str) -> list[str]:
    """The new lines of the log, once one of them has this in it."""
    lines: list[str] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines += homeserver.new_log()
        if any(part in line for line in lines):
            return lines
        time.sleep(process.POLL_SECONDS)
    raise AssertionError(f"Synapse did not log {part!r}")


def _in_flight(servers: Servers) -> list[float]:
    metrics = servers.here.metrics().items()
    return [value for name, value in metrics if "exchanges_in_flight" in name]


def _remote_media(homeserver: Homeserver) -> list[str]:
    with sqlite3.connect(homeserver.folder / "homeserver.db") as connection:
        return [row[0] for row in connection.execute("SELECT media_id FROM remote_media_cache")]


def forget_thumbnails(servers: Servers, path: str) -> None:
    folder = path.replace("local_content", "local_thumbnails")
    servers.storage.wait_for(servers.second, path)
    for container, prefix in ((servers.main, "matrix/"), (servers.second, "")):
        for name in servers.storage.names(container):
            if name.startswith(prefix + folder):
                servers.storage.delete(container, name)


def _read_a_little(homeserver: Homeserver, uri: str) -> None:
    """Begin a download, and close the connection in the middle."""
    request = (
        f"GET /_matrix/client/v1/media/download/{uri.removeprefix('mxc://')} HTTP/1.1\r\n"
        f"Host: localhost\r\nAuthorization: Bearer {homeserver.admin_token}\r\n\r\n"
    )
    with socket.create_connection((process.LOOPBACK, homeserver.port), timeout=30) as client:
        client.sendall(request.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
