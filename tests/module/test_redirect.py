"""Clients that are sent to Swift, by a real homeserver of each supported Synapse."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
import requests

from tests.module.conftest import MODULE, OLDEST, MakeEntry
from tests.module.homeservers import FORBIDDEN, Homeserver, media_path, screen_of
from tests.module.other_synapse import python_with_synapse
from tests.module.storage import Storage
from tests.servers import process
from tests.servers.tls import make_ca

KEY = f"tempurl-key-{uuid4().hex}"
LARGE = bytes(range(256)) * 2000  # 512 KB
SMALL = b"small"


@dataclass
class Place:
    """A homeserver that redirects for files above 100 KB, and its container."""

    homeserver: Homeserver
    storage: Storage
    container: str

    def store(self, content: bytes, kind: str = "image/png") -> str:
        """:returns: the ``mxc://`` URI of a file that is in Swift only."""
        uri: str = self.homeserver.user.upload(content, kind)
        self.homeserver.lose_disk()
        return uri

    def ask(self, uri: str, method: str = "GET", query: str = "", **headers: str) -> Any:
        """Ask for a file on the authenticated endpoint; redirects are not followed."""
        path = f"/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}{query}"
        return self.ask_path(path, method, **headers)

    def ask_path(self, path: str, method: str = "GET", **headers: str) -> Any:
        some = {"Authorization": f"Bearer {self.homeserver.admin_token}"}
        some |= {key.replace("_", "-"): value for key, value in headers.items()}
        return process.local_session().request(
            method, self.homeserver.url + path, headers=some, allow_redirects=False, timeout=60
        )


@pytest.fixture(scope="module", params=["ours", OLDEST])
def started(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    storage: Storage,
    entry: MakeEntry,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("redirect")
    container = f"redirect-{uuid4().hex[:8]}"
    storage.make(container)
    storage.post(
        container,
        X_Container_Meta_Temp_URL_Key=KEY,
        X_Container_Meta_Access_Control_Allow_Origin="*",
    )
    key_path = folder / "tempurl.key"
    key_path.touch(0o600)
    key_path.write_text(f"{KEY}\n")
    here = "/".join(storage.url.split("/")[:3])
    redirect = {"above": "100K", "key_path": str(key_path), "base_url": here}
    homeserver = Homeserver(
        folder / "synapse",
        make_ca(folder / "ca"),
        python=None if request.param == "ours" else python_with_synapse(OLDEST),
        media_storage_providers=[
            entry(container, prefix="matrix", segment_size="1M", redirect=redirect)
        ],
        config={"enable_authenticated_media": False},
    )
    with contextlib.ExitStack() as stack:
        stack.callback(homeserver.stop)
        homeserver.start()
        wait_for_line(homeserver, rf"redirected to the Swift container {container} .*sha512")
        yield Place(homeserver, storage, container)


@pytest.fixture
def place(started: Place) -> Iterator[Place]:
    """The homeserver; afterwards its log has no complaint, no URL and no key."""
    yield started
    log = started.homeserver.log.read_text()
    assert not FORBIDDEN.search(log)
    assert "Traceback" not in log
    assert "temp_url_sig" not in log
    assert KEY not in log


def test_key_file_that_is_missing(tmp_path: Path) -> None:
    """Synapse does not start without the key, and the last line says which file it wants."""
    config = {
        "container": "media",
        "storage_url": "http://127.0.0.1:1/v1/a",
        "auth_type": "none",
        "redirect": {"key_path": str(tmp_path / "absent.key")},
    }
    screen = screen_of(tmp_path / "synapse", {"module": MODULE, "config": config})
    last = screen.strip().splitlines()[-1]
    assert f"config.redirect.key_path: cannot read {tmp_path}/absent.key" in last


def wait_for_line(homeserver: Homeserver, pattern: str) -> str:
    """The first line of the log with this pattern."""
    deadline = time.monotonic() + 40
    while True:
        log = homeserver.log.read_text()
        match = re.search(f".*{pattern}.*", log)
        if match:
            return match[0]
        assert time.monotonic() < deadline, f"no {pattern} in the log\n{log[-3000:]}"
        time.sleep(process.POLL_SECONDS)


def fetched(url: str, **headers: str) -> requests.Response:
    """What Swift sends to somebody who has a URL and nothing else."""
    return process.local_session().get(url, headers=headers, timeout=30)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_large_file(place: Place, method: str) -> None:
    """The answer leads to the file in Swift, and says how long; nothing in it is misleading."""
    uri = place.store(LARGE)
    answer = place.ask(uri, method)
    assert answer.status_code == 307
    assert answer.content == b""
    assert answer.headers["Content-Length"] == "0"
    for absent in ("Content-Type", "Content-Disposition", "ETag"):
        assert absent not in answer.headers
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Vary"] == "Sec-Fetch-Mode, Origin"
    assert answer.headers["Cache-Control"] == "private,max-age=3600"
    url = answer.headers["Location"]
    assert f"/{place.container}/matrix/{media_path(uri)}?" in url
    swift = fetched(url)
    assert swift.content == LARGE
    name = uri.rsplit("/", 1)[1]
    assert swift.headers["Content-Disposition"].startswith(f'attachment; filename="{name}"')


def test_url_is_the_same_again(place: Place) -> None:
    """Two requests get the same URL; one with another Sec-Fetch-Mode gets another."""
    uri = place.store(LARGE)
    plain = [place.ask(uri).headers["Location"] for _ in range(2)]
    assert plain[0] == plain[1]
    modes = ["cors", "no-cors", "made-up&m=x"]
    cors, no_cors, unknown = (
        place.ask(uri, Sec_Fetch_Mode=mode).headers["Location"] for mode in modes
    )
    assert len({plain[0], cors, no_cors}) == 3
    assert unknown == plain[0]
    assert place.ask(uri, Origin="https://app.example").headers["Location"] == cors
    for url in (cors, no_cors):
        assert fetched(url, Range="bytes=2-5").content == LARGE[2:6]


@pytest.mark.parametrize("name", ["a.png", 'ü "&inline#/;.png', "x=y;z"])
def test_file_name(place: Place, name: str) -> None:
    """A saved file has the name that Synapse gives it, and is never shown as a page."""
    uri = place.store(LARGE, "text/html")
    encoded = quote(name.replace("/", ""), safe="")
    path = f"/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}/{encoded}"
    url = place.ask_path(path).headers["Location"]
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert query["filename"] == [name.replace("/", "")]
    assert "inline" not in query
    disposition = fetched(url).headers["Content-Disposition"]
    assert disposition.startswith("attachment;")
    assert disposition.endswith(f"filename*=UTF-8''{encoded}")


def test_small_file(place: Place) -> None:
    """A small file is streamed."""
    answer = place.ask(place.store(SMALL))
    assert (answer.status_code, answer.content) == (200, SMALL)


def test_file_on_the_local_disk(place: Place) -> None:
    """Synapse serves what it has on its own disk."""
    uri = place.homeserver.user.upload(LARGE)
    answer = place.ask(uri)
    assert (answer.status_code, answer.content) == (200, LARGE)


def test_missing_file(place: Place) -> None:
    """A file that Swift does not have is a 404."""
    uri = place.store(LARGE)
    place.storage.delete(place.container, f"matrix/{media_path(uri)}")
    assert place.ask(uri).status_code == 404


def test_old_endpoint(place: Place) -> None:
    """The old endpoint redirects only if the client asks for it."""
    uri = place.store(LARGE)
    path = f"/_matrix/media/v3/download/{uri.removeprefix('mxc://')}"
    for query, status in (
        ("", 200),
        ("?allow_redirect=false", 200),
        ("?allow_redirect=true", 307),
        ("?allow_remote=true&allow_redirect=true", 307),
    ):
        assert place.ask_path(path + query).status_code == status, query


def test_thumbnails(place: Place) -> None:
    """A large thumbnail is redirected to; the picture to make one from is pulled back."""
    noise = picture_of_noise(500, 400)
    uri = place.store(noise)
    path = f"/_matrix/client/v1/media/thumbnail/{uri.removeprefix('mxc://')}"
    small = place.ask_path(f"{path}?width=32&height=32&method=crop")
    assert small.status_code == 200
    large = f"{path}?width=320&height=240&method=scale"
    answer = place.ask_path(large)
    assert answer.status_code == 307
    assert fetched(answer.headers["Location"]).content.startswith(b"\x89PNG")
    for name in place.storage.names(place.container):
        if name.startswith("matrix/local_thumbnails/"):
            place.storage.delete(place.container, name)
    assert place.ask_path(large).status_code in (200, 307)
    pulled_back = place.homeserver.media_store / media_path(uri)
    assert pulled_back.read_bytes() == noise


def picture_of_noise(width: int, height: int) -> bytes:
    """A PNG that cannot be compressed."""
    import io
    import random

    from PIL import Image

    data = random.Random(1).randbytes(width * height * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), data).save(file, "PNG")
    return file.getvalue()


def test_object_of_another_length(place: Place) -> None:
    """An object that has not the length of Synapse's file is not redirected to."""
    uri = place.store(LARGE)
    mark = quote(place.homeserver.server_name, safe=":[]")
    name = f"matrix/{media_path(uri)}"
    place.storage.put(place.container, name, LARGE[:-1], **{"X-Object-Meta-Matrix-Server": mark})
    with contextlib.suppress(requests.RequestException):  # streamed, and broken off
        assert place.ask(uri).status_code != 307
    place.storage.delete(place.container, name)


def test_segments(place: Place) -> None:
    """A large object is streamed: Swift refuses its segments to a key of the container."""
    content = LARGE * 5  # 3 segments
    answer = place.ask(place.store(content))
    assert (answer.status_code, answer.content) == (200, content)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Object_Meta_Matrix_Server": "another.example"},
        {"X_Object_Meta_Nothing": "x"},
        {"X_Object_Meta_Matrix_Server": "ours", "X_Delete_After": "3600"},
    ],
)
def test_object_that_is_not_ours(place: Place, headers: dict[str, str]) -> None:
    """An object without our mark, or one that will be deleted, is streamed."""
    uri = place.store(LARGE)
    name = place.homeserver.server_name
    some = {key: quote(name) if value == "ours" else value for key, value in headers.items()}
    place.storage.post(place.container, f"matrix/{media_path(uri)}", **some)
    answer = place.ask(uri)
    assert (answer.status_code, answer.content) == (200, LARGE)


@pytest.mark.parametrize(
    ("authenticated", "endpoint"),
    [(True, "federation/v1/media/download"), (False, "media/v3/download")],
)
def test_federation_is_streamed(
    place: Place, tmp_path: Path, authenticated: bool, endpoint: str
) -> None:
    """Another homeserver gets the bytes: only clients are redirected.

    For a client that asks it on its old endpoint, Synapse asks on the old one, too.
    """
    uri = place.store(LARGE)
    place.homeserver.new_log()
    peer = Homeserver(
        tmp_path / "peer",
        make_ca(tmp_path / "ca"),
        config={"enable_authenticated_media": False},
    )
    try:
        peer.start()
        answer = peer.user.request("GET", uri, authenticated=authenticated)
        assert (answer.content, answer.headers["Content-Type"]) == (LARGE, "image/png")
    finally:
        peer.stop()
    log = [line for line in place.homeserver.new_log() if "Processed request" in line]
    asked = [line for line in log if f'"GET /_matrix/{endpoint}/' in line]
    assert [line for line in asked if "B 200 " in line]
    assert not [line for line in log if "B 307 " in line]


def test_metrics_and_request_log(place: Place) -> None:
    """A redirect is counted, and neither the metrics nor Synapse's request log show a URL."""
    name = f'synapse_swift_redirects_total{{container="{place.container}",'
    before = sum(v for k, v in place.homeserver.metrics().items() if k.startswith(name))
    place.ask(place.store(LARGE))
    after = sum(v for k, v in place.homeserver.metrics().items() if k.startswith(name))
    assert after - before == 1
    metrics = f"{place.homeserver.url}/_synapse/metrics"
    assert "temp_url" not in process.local_session().get(metrics, timeout=30).text
    lines = [line for line in place.homeserver.new_log() if ' 307 "GET' in line]
    assert lines
    assert not [line for line in lines if "temp_url" in line]
