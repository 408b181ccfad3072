"""What users, other servers and the log see when Swift, or the client, misbehaves."""

from __future__ import annotations

import io
import socket
import sqlite3
import time

import pytest
import requests
from PIL import Image
from requests.exceptions import ChunkedEncodingError

from swift_provider.client.client import WHOLE_BYTES
from tests.module.conftest import Servers
from tests.module.homeservers import Homeserver, media_path, there
from tests.servers import process
from tests.servers.faults import Answer, Reset, in_response

BIG = bytes(range(256)) * 12_000  # 3 MB

#: Not worth another try within the module's patience.
AWAY = {"status": 503, "headers": {"Retry-After": "3600"}, "times": None}


async def test_outage_is_answered_with_503(servers: Servers) -> None:
    """While Swift is away a client is told to come again, not that the media do not exist."""
    uri = await there(servers.here.user.upload, b"patience")
    servers.here.lose_disk()
    servers.proxy.add(Answer(match=("GET", ""), **AWAY))
    assert await there(_status, servers.here, uri) == 503
    (line,) = [line for line in servers.here.new_log() if " ERROR " in line]
    assert " GET-" in line, "the line carries the request's id"
    assert media_path(uri) in line
    servers.proxy.clear()
    assert await there(servers.here.user.download, uri) == b"patience"


async def test_missing_object_is_a_404_at_once(servers: Servers) -> None:
    """An object that Swift does not have is a 404: one request per provider, nothing logged."""
    uri = await there(servers.here.user.upload, b"forgotten")
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    for container, name in ((servers.main, f"matrix/{path}"), (servers.second, path)):
        await there(servers.storage.delete, container, name)
    servers.here.lose_disk()
    servers.here.new_log()
    servers.proxy.requests.clear()
    assert await there(_status, servers.here, uri) == 404
    gets = [seen for seen in servers.proxy.requests if seen.method == "GET"]
    assert len(gets) == 2
    assert not [line for line in servers.here.new_log() if "swift_provider" in line]


async def test_short_outage_is_waited_for(servers: Servers) -> None:
    """One 503 is not seen by the client; the log's line about it carries the request's id."""
    uri = await there(servers.here.user.upload, b"again")
    servers.here.lose_disk()
    servers.proxy.add(Answer(503, match=("GET", "")))
    assert await there(servers.here.user.download, uri) == b"again"
    (line,) = [line for line in servers.here.new_log() if "next try in" in line]
    assert " GET-" in line


async def test_failed_upload_is_answered_with_503(servers: Servers) -> None:
    """If Synapse waits for Swift and Swift is away, the upload fails, in a way to try again."""
    servers.proxy.add(Answer(match=("PUT", servers.main), **AWAY))
    with pytest.raises(requests.HTTPError, match="HTTP 503"):
        await there(servers.here.user.upload, b"not now")
    (line,) = [line for line in servers.here.new_log() if " ERROR " in line]
    assert " POST-" in line


async def test_failed_upload_in_the_background(servers: Servers) -> None:
    """If Synapse does not wait, the upload succeeds, and one line of the log tells of the gap."""
    fault = Answer(match=("PUT", servers.second), **AWAY)
    servers.proxy.add(fault)
    uri = await there(servers.here.user.upload, b"only in the first")
    await fault.happened()
    line = await there(_wait_for_line, servers.here, " ERROR ")
    assert media_path(uri) in line
    assert " swift_store-" in line


async def test_broken_body_goes_on(servers: Servers) -> None:
    """A download that breaks twice arrives whole."""
    uri = await there(servers.here.user.upload, BIG)
    servers.here.lose_disk()
    breaks = Reset(in_response(500_000), times=2, match=("GET", ""))
    servers.proxy.add(breaks)
    assert await there(servers.here.user.download, uri) == BIG
    assert breaks.fired == 2


async def test_client_sees_that_a_body_is_broken(servers: Servers) -> None:
    """If Swift fails for good in the middle, the client's connection is broken off."""
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
    assert await there(_status, servers.peer, uri) >= 500
    assert time.monotonic() - began < 20, "the other server was not left waiting"
    assert name not in await there(_remote_media, servers.peer)
    servers.proxy.clear()
    assert await there(servers.peer.user.download, uri) == BIG


async def test_part_of_a_file_does_not_stay_on_disk(servers: Servers) -> None:
    """What was being pulled back when Swift failed for good is removed, and comes whole later."""
    content = noise()
    uri = await there(servers.here.user.upload, content, "image/png")
    path = media_path(uri)
    await there(_forget_thumbnails, servers, path)
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
    """A client that leaves in the middle costs no ERROR line, and nothing stays open."""
    uri = await there(servers.here.user.upload, BIG * 8)
    await there(servers.storage.wait_for, servers.second, media_path(uri))
    servers.here.lose_disk()
    await servers.proxy.wait_idle()
    servers.here.new_log()
    await there(_read_a_little, servers.here, uri)
    await servers.proxy.wait_idle()
    await there(_wait_for_line, servers.here, "Processed request")
    assert not [line for line in servers.here.new_log() if " ERROR " in line]
    assert await there(_in_flight, servers) == [0, 0]


async def test_unused_responder_gives_everything_back(servers: Servers) -> None:
    """A file that Synapse asks for and then does not read leaves no exchange behind."""
    uri = await there(servers.here.user.upload, BIG)
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    await servers.proxy.wait_idle()
    answer = await there(servers.here.probe, "fetch_and_leave", servers.main, path)
    assert answer.json() == {"result": True, "kept_context": True}
    await servers.proxy.wait_idle()
    assert await there(_in_flight, servers) == [0, 0]


async def test_delete(servers: Servers) -> None:
    """Deleting removes the object and its segments; what is not there counts as deleted."""
    uri = await there(servers.here.user.upload, b"delete" * 400_000)
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    for _ in range(2):
        answer = await there(servers.here.probe, "delete", servers.second, path)
        assert answer.json() == {"result": None, "kept_context": True}
    assert path not in await there(servers.storage.names, servers.second)
    segments = await there(servers.storage.names, f"{servers.second}_segments")
    assert not [name for name in segments if path in name]
    servers.proxy.add(Answer(match=(None, servers.second), **AWAY))
    answer = await there(servers.here.probe, "delete", servers.second, path)
    assert answer.status_code == 503


async def test_metrics(servers: Servers) -> None:
    """Synapse's metrics tell of requests, errors, retries, bytes, sign-ins, by container."""
    before = await there(servers.here.metrics)
    uri = await there(servers.here.user.upload, BIG)
    servers.here.lose_disk()
    servers.proxy.add(Reset(in_response(500_000), match=("GET", "")))
    assert await there(servers.here.user.download, uri) == BIG
    servers.here.lose_disk()
    servers.proxy.add(Answer(match=("GET", ""), **AWAY))
    assert await there(_status, servers.here, uri) == 503
    after = await there(servers.here.metrics)

    def grown(name: str, **labels: str) -> float:
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        wanted += [f'container="{servers.main}"', f'server_name="{servers.here.server_name}"']
        return sum(
            value - before.get(sample, 0)
            for sample, value in after.items()
            if sample.startswith(f"synapse_swift_{name}{{") and all(w in sample for w in wanted)
        )

    assert grown("requests_total", method="PUT", status="201") == 1
    assert grown("requests_total", method="GET", status="200") == 1
    assert grown("requests_total", method="GET", status="206") == 1
    assert grown("requests_total", method="GET", status="503") == 1
    assert grown("request_seconds_count", method="PUT") == 1
    assert grown("errors_total", error="ServerBusyError") == 1
    assert grown("retries_total", error="ConnectionFailedError") == 1
    assert grown("resumed_downloads_total") == 1
    assert grown("received_bytes_total") == len(BIG)
    assert grown("sent_bytes_total") == len(BIG)
    assert grown("exchanges_in_flight") == 0
    signed_in = f'synapse_swift_sign_ins_total{{container="{servers.main}",result="issued"'
    assert [value for sample, value in after.items() if sample.startswith(signed_in)] == [1]


def noise() -> bytes:
    """A PNG that is too large to be fetched whole before it is delivered."""
    file = io.BytesIO()
    Image.effect_noise((800, 800), 100).save(file, "PNG")
    assert file.tell() > 4 * WHOLE_BYTES
    return file.getvalue()


def _break_for_good(servers: Servers, uri: str, after: int = 500_000) -> None:
    """The next download of these media breaks after so many bytes, and cannot go on."""
    path = media_path(uri)
    servers.proxy.add(
        Reset(in_response(after), match=("GET", f"{servers.main}/matrix/{path}")),
        Answer(match=("GET", path), **AWAY),
    )


def _status(homeserver: Homeserver, uri: str) -> int:
    try:
        homeserver.user.download(uri)
    except requests.HTTPError as error:
        return error.response.status_code
    return 200


def _wait_for_line(homeserver: Homeserver, part: str) -> str:
    """The first new line of the log with this in it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in homeserver.new_log():
            if part in line:
                return line
        time.sleep(process.POLL_SECONDS)
    raise AssertionError(f"Synapse did not log {part!r}")


def _in_flight(servers: Servers) -> list[float]:
    metrics = servers.here.metrics().items()
    return [value for name, value in metrics if "exchanges_in_flight" in name]


def _remote_media(homeserver: Homeserver) -> list[str]:
    with sqlite3.connect(homeserver.folder / "homeserver.db") as connection:
        return [row[0] for row in connection.execute("SELECT media_id FROM remote_media_cache")]


def _forget_thumbnails(servers: Servers, path: str) -> None:
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
