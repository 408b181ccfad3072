"""Objects that are not as long as Synapse's database says, through real homeservers."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.module.conftest import Servers
from tests.module.homeservers import Homeserver, media_path, there
from tests.module.test_faults import _remote_media, forget_thumbnails, noise
from tests.module.test_head import stored

#: Too large to be kept in memory.
SIZE = 200_000
#: How long to wait for the error. Of a picture that lacks its end, Synapse would make a thumbnail
#: shorter than the length that it announces, and a client would wait for the missing bytes.
ERROR_SECONDS = 10


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("difference", [-500, 500])
@pytest.mark.parametrize("size", [1500, SIZE])
async def test_replaced_object(servers: Servers, size: int, difference: int, method: str) -> None:
    """A client gets an error and no bytes, and its connection goes on; one line says why."""
    uri = await stored(servers, b"x" * size, "text/plain")
    path = media_path(uri)
    name = f"matrix/{path}"
    await there(servers.storage.put, servers.main, name, b"y" * (size + difference))
    servers.here.new_log()
    answer = await there(_ask, servers.here, method, uri)
    assert answer.status_code == 500
    if method == "GET":
        assert answer.json()["errcode"] == "M_UNKNOWN"
    assert answer.headers["Content-Type"] == "application/json"
    (line,) = [line for line in servers.here.new_log() if " ERROR " in line]
    assert f" {method}-" in line, "the line carries the request's id"
    for part in (path, name, f"{size + difference} bytes", f"says {size}"):
        assert part in line
    await there(servers.storage.put, servers.main, name, b"x" * size)
    assert await there(servers.here.user.download, uri) == b"x" * size


@pytest.mark.parametrize("difference", [-500, 500])
async def test_other_server_does_not_keep_a_replaced_object(
    servers: Servers, difference: int
) -> None:
    """A federating server stores nothing of an object that is not as long as announced."""
    uri = await stored(servers, b"x" * SIZE, "text/plain")
    name = f"matrix/{media_path(uri)}"
    await there(servers.storage.put, servers.main, name, b"y" * (SIZE + difference))
    assert await there(servers.peer.download_status, uri) >= 500
    assert uri.rsplit("/", 1)[1] not in await there(_remote_media, servers.peer)
    await there(servers.storage.put, servers.main, name, b"x" * SIZE)
    assert await there(servers.peer.user.download, uri) == b"x" * SIZE


@pytest.mark.parametrize("difference", [-500, 500])
async def test_replaced_object_is_not_pulled_back(servers: Servers, difference: int) -> None:
    """An object of another length does not get onto Synapse's disk for a thumbnail's sake."""
    content = noise()
    uri = await stored(servers, content)
    path = media_path(uri)
    await there(forget_thumbnails, servers, path)
    name = f"matrix/{path}"
    await there(servers.storage.put, servers.main, name, _other(content, difference))
    servers.here.new_log()
    with pytest.raises(requests.HTTPError):
        await there(servers.here.user.thumbnail, uri, 96, 96, timeout=ERROR_SECONDS)
    assert not _files(servers, "")
    (line,) = [line for line in servers.here.new_log() if "database says" in line]
    for part in (" ERROR ", path, f"{len(content) + difference} bytes", str(len(content))):
        assert part in line
    await there(servers.storage.put, servers.main, name, content)
    assert await there(servers.here.user.thumbnail, uri, 96, 96)
    assert (servers.here.media_store / path).read_bytes() == content


async def test_replaced_object_of_another_servers_media_is_not_pulled_back(
    servers: Servers,
) -> None:
    """The same for media of another server, which are on the disk under another name."""
    content = noise()
    uri = await there(servers.peer.user.upload, content, "image/png")
    servers.here.lose_disk()
    assert await there(servers.here.user.download, uri) == content
    (file,) = _files(servers, "remote_content")
    path = str(file.relative_to(servers.here.media_store))
    await there(servers.storage.wait_for, servers.second, path)
    await there(_forget_remote_thumbnails, servers, path)
    servers.here.lose_disk()
    name = quote(f"matrix/{path}")
    await there(servers.storage.put, servers.main, name, _other(content, 500))
    servers.here.new_log()
    with pytest.raises(requests.HTTPError):
        await there(servers.here.user.thumbnail, uri, 96, 96, timeout=ERROR_SECONDS)
    assert not _files(servers, "")
    assert [line for line in servers.here.new_log() if "database says" in line]
    await there(servers.storage.put, servers.main, name, content)
    assert await there(servers.here.user.thumbnail, uri, 96, 96)
    assert file.read_bytes() == content


@pytest.mark.parametrize("difference", [-700, 700])
async def test_thumbnail_that_was_made_anew(servers: Servers, difference: int) -> None:
    """A thumbnail whose length in the database is wrong is served whole, with its own length."""
    uri = await stored(servers, noise())
    query = {"kind": "thumbnail", "width": 96, "height": 96, "method": "scale"}
    right = await there(servers.here.user.request, "GET", uri, **query)
    await there(_change_thumbnails, servers.here, uri, difference)
    servers.here.lose_disk()
    for value in (None, "bytes=100-199"):
        headers = {} if value is None else {"Range": value}
        answer = await there(servers.here.user.request, "GET", uri, headers, **query)
        assert answer.content == (right.content if value is None else right.content[100:200])
    head = await there(servers.here.user.request, "HEAD", uri, **query)
    assert head.headers["Content-Length"] == str(len(right.content))


def _ask(homeserver: Homeserver, method: str, uri: str) -> requests.Response:
    try:
        return homeserver.user.request(method, uri)
    except requests.HTTPError as error:
        return error.response


def _files(servers: Servers, folder: str) -> list[Path]:
    """The files on the disk, in one folder of the media store."""
    found = (servers.here.media_store / folder).rglob("*")
    return [file for file in found if file.is_file()]


def _forget_remote_thumbnails(servers: Servers, path: str) -> None:
    folder = path.replace("remote_content", "remote_thumbnail")
    for container in (servers.main, servers.second):
        for name in servers.storage.names(container):
            if folder in name:
                servers.storage.delete(container, quote(name))


def _other(content: bytes, difference: int) -> bytes:
    """Another picture, as long as told. What follows the end of a PNG does not matter."""
    return content[:difference] if difference < 0 else content + bytes(difference)


def _change_thumbnails(homeserver: Homeserver, uri: str, difference: int) -> None:
    query = "UPDATE local_media_repository_thumbnails SET thumbnail_length = thumbnail_length + ?"
    database = sqlite3.connect(homeserver.folder / "homeserver.db", timeout=20)
    with contextlib.closing(database), database:
        where = " WHERE media_id = ?"
        assert database.execute(query + where, (difference, uri.rsplit("/", 1)[1])).rowcount
