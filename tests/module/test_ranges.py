"""Range requests of Matrix clients, through real homeservers."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import requests

from tests.module.conftest import Servers
from tests.module.homeservers import Homeserver, media_path, there
from tests.module.test_faults import forget_thumbnails, noise
from tests.module.test_head import stored
from tests.servers import process
from tests.servers.faults import Answer, Reset, in_response

LARGE = random.Random(6).randbytes(3_000_000)
#: Fetched whole before anything is delivered.
SMALL = random.Random(7).randbytes(60_000)
MB = 1_000_000


@pytest.fixture(scope="module")
def huge() -> bytes:
    """40 MB."""
    return random.Random(8).randbytes(40 * MB)


def some_ranges(size: int) -> list[range]:
    """Ranges at random, and those at the edges."""
    numbers = random.Random(size)
    parts = [range(size), range(1), range(size - 1, size), range(1, size - 1)]
    for _ in range(12):
        start, stop = sorted((numbers.randrange(size), numbers.randrange(size) + 1))
        parts.append(range(start, max(stop, start + 1)))
    return parts


def check_part(answer: requests.Response, whole: requests.Response, part: range) -> None:
    """The answer is this part of the whole one, and says so."""
    content = whole.content
    assert answer.status_code == 206
    assert answer.content == content[part.start : part.stop]
    expected = {
        **whole.headers,
        "Content-Length": str(len(part)),
        "Content-Range": f"bytes {part[0]}-{part[-1]}/{len(content)}",
    }
    assert without_date(answer) == {**expected, "Date": None}


def without_date(answer: requests.Response) -> dict[str, str | None]:
    return {**answer.headers, "Date": None}


@pytest.mark.parametrize("authenticated", [True, False])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_parts(servers: Servers, content: bytes, authenticated: bool) -> None:
    """Ranges at random are the same bytes of the file, from memory and from Swift."""
    uri = await stored(servers, content)
    if not authenticated:
        servers.here.make_public(uri)
    request = servers.here.user.request

    async def get(value: str | None, **headers: str) -> requests.Response:
        asked = headers if value is None else {"Range": value, **headers}
        return await there(request, "GET", uri, asked, authenticated=authenticated)

    whole = await get(None)
    assert whole.headers["Accept-Ranges"] == "bytes"
    size = len(content)
    for part in some_ranges(size):
        check_part(await get(f"bytes={part[0]}-{part[-1]}"), whole, part)
    check_part(await get("bytes=20000-"), whole, range(20_000, size))
    check_part(await get("bytes=-500"), whole, range(size - 500, size))
    conditional = {"If-Range": whole.headers["ETag"]}
    check_part(await get("bytes=5-9", **conditional), whole, range(5, 10))
    for answer in (
        await get("bytes=5-9", **{"If-Range": '"another"'}),
        await get("bytes=0-9,20-29"),
        await get("lines=0-9"),
    ):
        assert (answer.status_code, answer.content) == (200, content)
        assert without_date(answer) == without_date(whole)
    refused = await get(f"bytes={size}-")
    assert (refused.status_code, refused.content) == (416, b"")
    assert refused.headers["Content-Range"] == f"bytes */{size}"
    assert refused.headers["Content-Length"] == "0"
    head = await there(request, "HEAD", uri, {"Range": "bytes=5-9"}, authenticated=authenticated)
    assert head.status_code == 200
    assert without_date(head) == without_date(whole)


async def test_a_part_of_a_thumbnail(servers: Servers) -> None:
    """Thumbnails have parts, too; to make one, the whole original is pulled back."""
    content = noise()
    uri = await stored(servers, content)
    query = {"kind": "thumbnail", "width": 96, "height": 96, "method": "scale"}
    request = servers.here.user.request
    whole = await there(request, "GET", uri, **query)
    answer = await there(request, "GET", uri, {"Range": "bytes=100-299"}, **query)
    check_part(answer, whole, range(100, 300))
    # A size that is not there yet. Synapse serves what it made from its disk.
    new = {**query, "width": 320, "height": 240}
    path = media_path(uri)
    await there(forget_thumbnails, servers, path)
    servers.here.lose_disk()
    made = await there(request, "GET", uri, {"Range": "bytes=100-299"}, **new)
    assert made.ok
    assert (servers.here.media_store / path).read_bytes() == content


async def test_which_requests_swift_gets(servers: Servers) -> None:
    """A part that begins where the file does needs no second request."""
    uri = await stored(servers, LARGE)
    asked = []
    for value in ("bytes=0-", "bytes=0-99999", "bytes=100000-199999", "bytes=100000-"):
        servers.proxy.requests.clear()
        await there(servers.here.user.request, "GET", uri, {"Range": value})
        await servers.proxy.wait_idle()
        asked.append([seen.headers.get("range") for seen in servers.proxy.requests])
    assert asked == [[None], [None], [None, "bytes=100000-199999"], [None, "bytes=100000-"]]


async def test_a_seek_reads_little_more_than_the_part(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, huge: bytes
) -> None:
    """A part of 40 MB costs less than 2 MB more than its length."""
    uri = await stored(servers, huge)
    monkeypatch.setattr(servers.proxy, "send_buffer", 64 * 1024)
    servers.proxy.close_idle()
    for part in (range(30 * MB, 31 * MB), range(MB), range(100), range(40 * MB - 1, 40 * MB)):
        before = servers.proxy.bytes_to_client
        value = f"bytes={part[0]}-{part[-1]}"
        answer = await there(servers.here.user.request, "GET", uri, {"Range": value})
        assert answer.content == huge[part.start : part.stop]
        await servers.proxy.wait_idle()
        extra = servers.proxy.bytes_to_client - before - len(part)
        print(f"{value}: {extra} bytes more than asked for")
        assert extra < 2 * MB


async def test_other_servers_get_the_whole(servers: Servers) -> None:
    """A file that came from another server is whole, and then has parts."""
    uri = await there(servers.peer.user.upload, LARGE)
    request = servers.here.user.request
    await there(request, "GET", uri, {"Range": "bytes=1000-1999"})
    servers.here.lose_disk()
    whole = await there(request, "GET", uri)
    assert whole.content == LARGE
    answer = await there(request, "GET", uri, {"Range": "bytes=1000-1999"})
    check_part(answer, whole, range(1000, 2000))


async def test_a_broken_part_goes_on(servers: Servers) -> None:
    """A part that breaks twice arrives whole."""
    uri = await stored(servers, LARGE)
    whole = await there(servers.here.user.request, "GET", uri)
    breaks = Reset(in_response(100_000), times=2, match=("GET", ""))
    servers.proxy.add(breaks)
    answer = await there(servers.here.user.request, "GET", uri, {"Range": "bytes=0-999999"})
    check_part(answer, whole, range(MB))
    assert breaks.fired == 2


async def test_a_part_that_cannot_go_on(servers: Servers) -> None:
    """If Swift fails for good within a part, the client's connection is closed."""
    uri = await stored(servers, LARGE)
    servers.proxy.add(Reset(in_response(100_000), match=("GET", "")))
    servers.proxy.add(Answer(404, match=("GET", media_path(uri)), times=None))
    with pytest.raises(requests.RequestException):
        await there(servers.here.user.request, "GET", uri, {"Range": "bytes=0-999999"})


async def test_client_hangs_up_within_a_part(servers: Servers) -> None:
    """A client that disconnects causes no ERROR line, and no request stays in flight."""
    uri = await stored(servers, LARGE * 8)
    servers.here.new_log()
    await there(_read_a_little, servers.here, uri)
    await servers.proxy.wait_idle()
    assert [seen.headers.get("range") for seen in servers.proxy.requests] == [None, "bytes=1000-"]
    assert not [line for line in servers.here.new_log() if " ERROR " in line]


def _read_a_little(homeserver: Homeserver, uri: str) -> None:
    """Begin to read a part, and close the connection in the middle."""
    request = (
        f"GET /_matrix/client/v1/media/download/{uri.removeprefix('mxc://')} HTTP/1.1\r\n"
        f"Host: localhost\r\nAuthorization: Bearer {homeserver.admin_token}\r\n"
        "Range: bytes=1000-\r\n\r\n"
    )
    with socket.create_connection((process.LOOPBACK, homeserver.port), timeout=30) as client:
        client.sendall(request.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 206")


async def test_seek_in_a_video(servers: Servers, tmp_path: Path) -> None:
    """A player finds a picture near the end of a video without reading what is before it."""
    video = tmp_path / "video.mp4"
    await there(make_video, video)
    content = video.read_bytes()
    uri = await stored(servers, content, "video/mp4")
    url = f"{servers.here.url}/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}"
    header = f"Authorization: Bearer {servers.here.admin_token}\r\n"
    expected = await there(frame_at, 50, "-i", video)
    before = servers.proxy.bytes_to_client
    assert await there(frame_at, 50, "-headers", header, "-i", url) == expected
    await servers.proxy.wait_idle()
    read = servers.proxy.bytes_to_client - before
    print(f"{read} of {len(content)} bytes were read")
    assert read < len(content) / 2
    assert [seen for seen in servers.proxy.requests if "range" in seen.headers]


def make_video(path: Path) -> None:
    """A minute, about 100 MB; the index is at the end of the file, after the pictures.

    The kernels' buffers between Swift, Synapse and player take 20 MB of it.
    """
    _ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25,noise=alls=40:allf=t"),
        *("-t", "60", "-c:v", "mpeg4", "-b:v", "14M", "-g", "25", path),
    )
    assert path.stat().st_size > 80 * MB


def frame_at(seconds: int, *source: str | Path) -> bytes:
    """The pixels of the picture that a player shows there."""
    output = ("-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    pixels = _ffmpeg("-ss", str(seconds), *source, *output)
    assert len(pixels) == 640 * 360 * 3
    return pixels


def _ffmpeg(*arguments: str | Path) -> bytes:
    found = shutil.which("ffmpeg")
    if found is None:
        raise process.ServiceError("ffmpeg is missing; install it with: apt-get install ffmpeg")
    quiet = ("-nostdin", "-hide_banner", "-loglevel", "error", "-y")
    return subprocess.run([found, *quiet, *arguments], capture_output=True, check=True).stdout
