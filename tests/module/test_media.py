"""Media of both kinds, through real homeservers of each supported Synapse."""

from __future__ import annotations

import io
from urllib.parse import quote

from PIL import Image

from tests.module.conftest import Servers
from tests.module.homeservers import media_path, there
from tests.module.test_faults import noise


def picture(width: int = 800, height: int = 600, seed: int = 0) -> bytes:
    """A PNG with something to see."""
    image = Image.linear_gradient("L").resize((width, height)).rotate(seed).convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def test_media_survives_the_loss_of_the_disk(servers: Servers) -> None:
    """After the loss of the disk, uploads and thumbnails come back byte for byte."""
    user = servers.here.user
    contents = [b"", b"small", picture(), b"large" * 1_000_000]
    uris = [await there(user.upload, content, "image/png") for content in contents]
    thumbnail = await there(user.thumbnail, uris[2], 96, 96)
    servers.here.lose_disk()
    for uri, content in zip(uris, contents, strict=True):
        assert await there(user.download, uri) == content
    assert await there(user.thumbnail, uris[2], 96, 96) == thumbnail
    assert not [line for line in servers.here.new_log() if " ERROR " in line]


async def test_each_provider_gets_every_file(servers: Servers) -> None:
    """Two providers keep the same bytes, each in its container, under its prefix or none."""
    content = b"twice" * 300_000  # two segments in the second container
    uri = await there(servers.here.user.upload, content)
    path = media_path(uri)
    assert await there(servers.storage.get, servers.main, f"matrix/{path}") == content
    await there(servers.storage.wait_for, servers.second, path)
    assert await there(servers.storage.get, servers.second, path) == content
    segments = await there(servers.storage.names, f"{servers.second}_segments")
    (first, second) = [name for name in segments if path in name]
    stored = [(servers.main, f"matrix/{path}"), (servers.second, path)]
    stored += [(f"{servers.second}_segments", name) for name in (first, second)]
    for container, name in stored:
        headers = await there(servers.storage.head, container, name)
        mark = headers["X-Object-Meta-Matrix-Server"].replace("%3A", ":")
        assert mark == servers.here.server_name


async def test_second_provider_is_asked_when_the_first_has_nothing(servers: Servers) -> None:
    """A file that only the second provider has is served."""
    uri = await there(servers.here.user.upload, b"only in the second")
    path = media_path(uri)
    await there(servers.storage.wait_for, servers.second, path)
    await there(servers.storage.delete, servers.main, f"matrix/{path}")
    servers.here.lose_disk()
    assert await there(servers.here.user.download, uri) == b"only in the second"


async def test_media_without_local_storage(servers: Servers) -> None:
    """With no local media, uploads reach Swift whether or not Synapse waits for them."""
    if not servers.keeps_no_local:
        return  # this Synapse always has a media store
    warned = [line for line in servers.peer.log.read_text().splitlines() if "is lost" in line]
    assert [" WARNING " in line and servers.peer_does_not in line for line in warned] == [True]
    user, content = servers.peer.user, picture(seed=1)
    uri = await there(user.upload, content, "image/png")
    path = media_path(uri)
    assert await there(servers.storage.get, servers.peer_waits, path) == content
    await there(servers.storage.wait_for, servers.peer_does_not, path)
    assert await there(servers.storage.get, servers.peer_does_not, path) == content
    assert await there(user.download, uri) == content
    assert await there(user.thumbnail, uri, 96, 96)
    assert not [path for path in servers.peer.media_store.rglob("*") if path.is_file()]


async def test_remote_media_are_kept_in_swift(servers: Servers) -> None:
    """Media of another server, and their thumbnails, are served from Swift after the first time."""
    content = picture(seed=2)
    uri = await there(servers.peer.user.upload, content, "image/png")
    user = servers.here.user
    assert await there(user.download, uri) == content
    thumbnail = await there(user.thumbnail, uri, 96, 96)
    servers.here.lose_disk()
    asked = len(_remote_downloads(servers))
    assert await there(user.download, uri) == content
    assert await there(user.thumbnail, uri, 96, 96) == thumbnail
    assert len(_remote_downloads(servers)) == asked == 1


async def test_a_remote_thumbnail_needs_no_original(servers: Servers) -> None:
    """Synapse fetches the original first, and drops it: its bytes stay in Swift."""
    content = noise()
    uri = await there(servers.peer.user.upload, content, "image/png")
    user = servers.here.user
    thumbnail = await there(user.thumbnail, uri, 96, 96)
    await there(servers.storage.wait_for, servers.second, "-image-png-scale")
    servers.here.lose_disk()
    await servers.proxy.wait_idle()
    servers.proxy.requests.clear()
    assert await there(user.thumbnail, uri, 96, 96) == thumbnail
    got = [seen.path for seen in servers.proxy.requests if seen.method == "GET"]
    assert got
    assert not [path for path in got if "remote_content" in path]


async def test_remote_media_without_local_storage(servers: Servers) -> None:
    """A server with no local media keeps other servers' media in Swift, thumbnails included."""
    content = picture(seed=3)
    uri = await there(servers.here.user.upload, content, "image/png")
    user = servers.peer.user
    for _ in range(2):
        assert await there(user.download, uri) == content
        assert await there(user.thumbnail, uri, 96, 96)
    for container in (servers.peer_waits, servers.peer_does_not):
        names = await there(servers.storage.names, container)
        kept = [name for name in names if servers.here.server_name in name]
        assert {name.split("/")[0] for name in kept} >= {"remote_content", "remote_thumbnail"}


async def test_legacy_name_of_a_remote_thumbnail(servers: Servers) -> None:
    """A remote thumbnail under the name that old Synapses gave it, without the method, is found."""
    uri = await there(servers.peer.user.upload, picture(seed=4), "image/png")
    user = servers.here.user
    expected = await there(user.thumbnail, uri, 96, 96)
    names = await there(servers.storage.names, servers.main)
    prefix = f"matrix/remote_thumbnail/{servers.peer.server_name}/"
    mine = [name for name in names if name.startswith(prefix)]
    for name in mine:
        if name.endswith("-scale"):
            content = await there(servers.storage.get, servers.main, quote(name))
            legacy = quote(name.removesuffix("-scale"))
            await there(servers.storage.put, servers.main, legacy, content)
        await there(servers.storage.delete, servers.main, quote(name))
    for name in await there(servers.storage.names, servers.second):
        if name.startswith("remote_thumbnail/"):
            await there(servers.storage.delete, servers.second, quote(name))
    servers.here.lose_disk()
    assert await there(user.thumbnail, uri, 96, 96) == expected
    legacy_reads = [
        seen.path
        for seen in servers.proxy.requests
        if seen.method == "GET" and seen.path.endswith("-image-png")
    ]
    assert legacy_reads


async def test_url_previews_stay_out_of_swift(servers: Servers) -> None:
    """The provider neither stores nor fetches files of the URL preview cache."""
    for call in ("store", "fetch_and_leave"):
        answer = await there(servers.here.probe, call, servers.main, "url_cache/2024/x", True)
        assert answer.status_code == 200
        assert not answer.json()["result"]
    # Others may still be of the test before.
    assert not [seen.path for seen in servers.proxy.requests if "url_cache" in seen.path]


def _remote_downloads(servers: Servers) -> list[str]:
    log = servers.peer.log.read_text().splitlines()
    return [
        line
        for line in log
        if "/_matrix/federation/v1/media/download/" in line and "Processed" in line
    ]
