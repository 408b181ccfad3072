"""Synapse pulls a file back: only a whole file is ever visible under the final name."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from twisted.internet.threads import deferToThread

from tests.client.trouble import until
from tests.module.conftest import Servers
from tests.module.homeservers import media_path, there
from tests.module.test_faults import forget_thumbnails, noise
from tests.servers.faults import BEFORE_RESPONSE, Stall, in_response


async def _media_on_swift_only(servers: Servers) -> tuple[str, Path, bytes]:
    """A picture that is on no disk and has no thumbnail: its URI, final name and content."""
    content = noise()
    uri = await there(servers.here.user.upload, content, "image/png")
    path = media_path(uri)
    await there(forget_thumbnails, servers, path)
    servers.here.lose_disk()
    return uri, servers.here.media_store / path, content


def _begin_thumbnail(servers: Servers, uri: str):
    return deferToThread(servers.here.user.thumbnail, uri, 96, 96)


async def test_kill_in_the_middle(servers: Servers) -> None:
    """After kill -9 nothing has the final name, and the next request gets the right bytes."""
    uri, final, content = await _media_on_swift_only(servers)
    stall = Stall(in_response(len(content) // 2), match=("GET", f"{final.name}$"))
    servers.proxy.add(stall)
    pulling = _begin_thumbnail(servers, uri)
    await stall.happened()
    # The stall is on the way to Synapse, which may not have opened the file yet.
    await until(lambda: any(final.parent.glob(f"{final.name}*")))
    await there(servers.here.kill)
    with pytest.raises(requests.ConnectionError):
        await pulling
    assert not final.exists()
    (left,) = final.parent.iterdir()
    assert left.name.startswith(final.name)
    servers.proxy.clear()
    await there(servers.here.start)
    assert await there(servers.here.user.download, uri) == content
    assert await _begin_thumbnail(servers, uri)
    assert final.read_bytes() == content
    assert list(final.parent.iterdir()) == [final], "what the kill left is removed"


async def test_reader_in_the_middle(servers: Servers) -> None:
    """A download during a pull-back gets the whole file, at once."""
    uri, final, content = await _media_on_swift_only(servers)
    stall = Stall(in_response(len(content) // 2), match=("GET", f"{final.name}$"))
    servers.proxy.add(stall)
    pulling = _begin_thumbnail(servers, uri)
    await stall.happened()
    assert await there(servers.here.user.download, uri) == content
    assert not final.exists()
    stall.release()
    assert await pulling
    assert final.read_bytes() == content
    assert list(final.parent.iterdir()) == [final]


async def test_two_pull_backs_at_once(servers: Servers) -> None:
    """The slower of two pull-backs does not touch the file of the faster one."""
    uri, final, content = await _media_on_swift_only(servers)
    slow = Stall(BEFORE_RESPONSE, match=("GET", f"{final.name}$"))
    servers.proxy.add(slow)
    pulling = _begin_thumbnail(servers, uri)
    await slow.happened()
    assert await there(servers.here.user.thumbnail, uri, 32, 32)
    with final.open("rb") as reader:
        assert reader.read(1000) == content[:1000]
        slow.release()
        assert await pulling
        assert reader.read() == content[1000:]
    assert final.read_bytes() == content
    assert list(final.parent.iterdir()) == [final]
