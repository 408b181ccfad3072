"""Redirects as a browser follows them: page, homeserver and Swift on three origins.

Needs Chromium, Firefox and ffmpeg. Without them these tests are skipped, which is a failure in CI.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread

from swift_provider.client.temp_url import Signer
from tests.module.conftest import MakeEntry
from tests.module.homeservers import Homeserver, media_path, there
from tests.module.storage import Storage
from tests.module.test_redirect import picture_of_noise, wait_for_line
from tests.servers.browser import CHROMIUM, FIREFOX, Browser, Firefox, Pages, program
from tests.servers.fault_proxy import FaultProxy
from tests.servers.tls import make_ca

KEY = f"tempurl-key-{uuid4().hex}"

#: Passes media requests on with the access token, as Element Web's does, and with Range.
WORKER = """
addEventListener("install", (event) => event.waitUntil(skipWaiting()));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  if (!event.request.url.includes("/_matrix/client/v1/media/")) return;
  const headers = {Authorization: "AUTHORIZATION"};
  event.respondWith(fetch(event.request.url, {headers}));
});
"""


@pytest.fixture(scope="module")
def _programs() -> None:
    missing = [] if program(CHROMIUM) else ["chromium"]
    missing += [] if program(FIREFOX) else ["firefox-esr"]
    missing += [] if shutil.which("ffmpeg") else ["ffmpeg"]
    if missing:
        pytest.skip(f"missing; install with: apt-get install {' '.join(missing)}")


class Web:
    """A page, a homeserver and Swift, each on an origin of its own."""

    def __init__(self, homeserver: Homeserver, proxy: FaultProxy, storage: Storage) -> None:
        self.homeserver = homeserver
        self.proxy = proxy
        self.storage = storage
        self.pages = Pages()
        self.browser: Browser
        self.container = ""
        #: What Swift and Synapse had been asked at each ``mark()`` of the page, and in the end.
        self.counts: list[tuple[int, int]] = []

    @property
    def authorization(self) -> str:
        return f"Bearer {self.homeserver.admin_token}"

    def asked_of_swift(self) -> list[Any]:
        """The requests by temporary URLs."""
        return [seen for seen in list(self.proxy.requests) if "temp_url_sig" in seen.path]

    def _count(self) -> None:
        log = self.homeserver.log.read_text()
        asked = log.count('"GET /_matrix/client/v1/media/download/')
        self.counts.append((len(self.asked_of_swift()), asked))

    async def store(self, content: bytes, kind: str) -> str:
        """:returns: the URL of a file that is in Swift only, without an access token."""
        uri = await there(self.homeserver.user.upload, content, kind)
        self.homeserver.lose_disk()
        path = uri.removeprefix("mxc://")
        return f"{self.homeserver.url}/_matrix/client/v1/media/download/{path}"

    async def run(self, script: str, **settings: str) -> Any:
        """Run a script in a page of a new browser.

        :param settings: ``settings.NAME`` in the script.
        """
        self.pages.script = script
        self.pages.settings = {"authorization": self.authorization, **settings}
        self.pages.on_mark = self._count
        self._count()
        result = await there(self.browser.run, self.pages)
        await deferToThread(time.sleep, 0.2)  # Synapse logs a request after it has answered
        self._count()
        return result

    def new_requests(self) -> list[tuple[int, int]]:
        """How many requests Swift and Synapse got from mark to mark."""
        pairs = zip(self.counts, self.counts[1:], strict=False)
        return [(after[0] - before[0], after[1] - before[1]) for before, after in pairs]


@pytest.fixture(scope="module")
def started(
    _programs: None,
    tmp_path_factory: pytest.TempPathFactory,
    storage: Storage,
    entry: MakeEntry,
) -> Iterator[Web]:
    from twisted.internet import reactor  # pytest-twisted chooses it

    folder = tmp_path_factory.mktemp("browser")
    container = f"browser-{uuid4().hex[:8]}"
    storage.make(container)
    storage.post(
        container,
        X_Container_Meta_Temp_URL_Key=KEY,
        X_Container_Meta_Access_Control_Allow_Origin="*",
    )
    host, port = storage.url.split("/")[2].split(":")
    proxy = FaultProxy(reactor, host, int(port))
    pytest_twisted.blockon(ensureDeferred(proxy.start()))
    base_url = f"http://127.0.0.1:{proxy.port}"
    homeserver = Homeserver(
        folder / "synapse",
        make_ca(folder / "ca"),
        media_storage_providers=[
            entry(
                container,
                storage_url=proxy.url_for(storage.url),
                redirect={"above": "100K", "key": KEY, "base_url": base_url},
            )
        ],
    )
    web = Web(homeserver, proxy, storage)
    web.container = container
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: pytest_twisted.blockon(ensureDeferred(proxy.stop())))
        stack.callback(homeserver.stop)
        pytest_twisted.blockon(deferToThread(homeserver.start))
        pytest_twisted.blockon(deferToThread(wait_for_line, homeserver, "Clients are redirected"))
        stack.enter_context(web.pages.serving())
        yield web


@pytest.fixture
def web(started: Web, tmp_path: Path) -> Web:
    """The three origins, and a browser that has seen nothing yet."""
    started.browser = Browser(tmp_path)
    started.counts.clear()
    started.proxy.requests.clear()
    started.pages.headers = {}
    started.pages.worker = WORKER.replace("AUTHORIZATION", started.authorization)
    return started


@pytest.fixture(scope="module")
def picture() -> bytes:
    return picture_of_noise(400, 300)


@pytest.fixture(scope="module")
def video(_programs: None, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A minute, about 20 MB, which begins with its index."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    source = "testsrc2=size=640x360:rate=10,noise=alls=40:allf=t"
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, "-t", "60"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10"]
    command += ["-movflags", "faststart", str(path)]
    subprocess.run(command, check=True)
    return path.read_bytes()


def with_token(web: Web, url: str) -> str:
    """A URL for an element that can send no header."""
    return f"{url}?access_token={web.homeserver.admin_token}"


def shown(content: bytes) -> dict[str, Any]:
    """What the page's ``get`` returns for a file that Swift has delivered."""
    return {"status": 200, "redirected": True, "sha256": hashlib.sha256(content).hexdigest()}


async def test_fetch(web: Web, picture: bytes) -> None:
    """JavaScript gets the file by fetch; the access token does not reach Swift."""
    url = await web.store(picture, "image/png")
    assert await web.run("return await get(settings.url)", url=url) == shown(picture)
    (seen,) = web.asked_of_swift()
    assert seen.headers["origin"] == "null"
    assert "authorization" not in seen.headers
    assert "referer" not in seen.headers


async def test_fetch_by_firefox(web: Web, picture: bytes, tmp_path: Path) -> None:
    """Firefox gets it too. It asks Swift by OPTIONS first, with the page's origin."""
    web.browser = Firefox(tmp_path)
    url = await web.store(picture, "image/png")
    assert await web.run("return await get(settings.url)", url=url) == shown(picture)
    asked = [(seen.method, seen.headers["origin"]) for seen in web.asked_of_swift()]
    assert asked == [("OPTIONS", web.pages.origin), ("GET", "null")]


async def test_image(web: Web, picture: bytes) -> None:
    """An image is shown."""
    url = with_token(web, await web.store(picture, "image/png"))
    assert await web.run("return await image(settings.url)", url=url) == 400
    assert len(web.asked_of_swift()) == 1


async def test_second_load(web: Web, picture: bytes) -> None:
    """A page that is opened again shows the picture from the browser's cache."""
    plain = await web.store(picture, "image/png")
    script = """
      const shown = [await image(settings.token), (await get(settings.plain)).status];
      if (step === 1) await next();
      return shown;
    """
    result = await web.run(script, plain=plain, token=with_token(web, plain))
    assert result == [400, 200]
    assert web.new_requests() == [(2, 2), (0, 0)]


async def test_image_and_then_fetch(web: Web, picture: bytes) -> None:
    """JavaScript gets the file that the same page has shown as an image, by the same URL."""
    url = with_token(web, await web.store(picture, "image/png"))
    script = """
      const width = await image(settings.url);
      return [width, await get(settings.url, {})];
    """
    assert await web.run(script, url=url) == [400, shown(picture)]


async def test_video_that_is_sought(web: Web, video: bytes) -> None:
    """A video plays, and seeking fetches from Swift what is needed, without asking Synapse."""
    url = with_token(web, await web.store(video, "video/mp4"))
    script = """
      const video = await show("video", settings.url, "loadeddata");
      if (video === null) return "error";
      const times = [];
      await mark();
      for (const wanted of [50, 20]) {
        await new Promise((resolve) => {
          video.addEventListener("seeked", resolve, {once: true});
          video.currentTime = wanted;
        });
        times.push(video.currentTime);
      }
      return [Math.round(video.duration), times];
    """
    assert await web.run(script, url=url) == [60, [50, 20]]
    before, after = web.new_requests()
    assert before[1] >= 1
    assert after[1] == 0, "seeking does not ask Synapse"
    ranges = [seen.headers["range"] for seen in web.asked_of_swift()]
    assert "bytes=0-" in ranges
    assert len(set(ranges)) > 1, "not all was fetched to find one place"


async def test_service_worker(web: Web, picture: bytes) -> None:
    """An image that a service worker fetches with the access token is shown."""
    url = await web.store(picture, "image/png")
    script = """
      await navigator.serviceWorker.register("/worker.js");
      await navigator.serviceWorker.ready;
      if (!navigator.serviceWorker.controller)
        await new Promise((resolve) =>
          navigator.serviceWorker.addEventListener("controllerchange", resolve, {once: true}));
      return [await image(settings.url), (await get(settings.url)).status];
    """
    assert await web.run(script, url=url) == [400, 200]
    assert web.asked_of_swift()


async def test_page_that_allows_only_the_homeserver(web: Web, picture: bytes) -> None:
    """A Content-Security-Policy without Swift's origin forbids it; with Swift's it works."""
    url = with_token(web, await web.store(picture, "image/png"))
    swift = f"http://127.0.0.1:{web.proxy.port}"
    script = """
      const read = await get(settings.url, {}).then((got) => got.status, () => "refused");
      return [read, await image(settings.url)];
    """
    for place, expected in ((web.homeserver.url, ["refused", None]), ("", [200, 400])):
        allowed = place or f"{web.homeserver.url} {swift}"
        policy = f"connect-src 'self' {allowed}; img-src {allowed}"
        web.pages.headers = {"Content-Security-Policy": policy}
        assert await web.run(script, url=url) == expected


async def test_expired(web: Web, picture: bytes) -> None:
    """A URL that has expired shows nothing, and a request to the homeserver leads to a new one."""
    url = await web.store(picture, "image/png")
    name = media_path(f"mxc://{url.split('/download/')[1]}")
    signer = Signer(KEY.encode(), "sha512", 3600)
    storage_url = web.proxy.url_for(web.storage.url)
    now = time.time() - 3 * 3600
    old = signer.url(storage_url, web.container, name, now, filename="a").url
    script = "return [await image(settings.old), await image(settings.url)]"
    assert await web.run(script, old=old, url=with_token(web, url)) == [None, 400]
    assert [seen.status for seen in web.asked_of_swift()] == [401, 200]
