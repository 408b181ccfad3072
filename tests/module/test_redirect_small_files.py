"""Small files where large ones are redirected to, through a real Synapse and a fault proxy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.module.conftest import MakeEntry
from tests.module.homeservers import OUTAGE, Homeserver, media_path, there
from tests.module.storage import Storage
from tests.module.test_hot_files import _wait_for_downloads
from tests.module.test_redirect import Place, wait_for_line
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import BEFORE_RESPONSE, Answer, Stall
from tests.servers.tls import make_ca

KEY = f"tempurl-key-{uuid4().hex}"
MANY = 20


class Proxied(Place):
    """A homeserver that redirects, and reaches Swift through a proxy."""

    proxy: FaultProxy

    def asked(self, uri: str) -> list[str]:
        """The methods of the requests for this file, but for its upload."""
        path = media_path(uri)
        methods = [seen.method for seen in self.proxy.requests if seen.path.endswith(path)]
        return [method for method in methods if method != "PUT"]


@pytest.fixture(scope="module")
def started(
    tmp_path_factory: pytest.TempPathFactory, storage: Storage, entry: MakeEntry
) -> Iterator[Proxied]:
    from twisted.internet import reactor  # pytest-twisted chooses it

    folder = tmp_path_factory.mktemp("redirect-small")
    container = f"redirect-{uuid4().hex[:8]}"
    storage.make(container)
    storage.post(container, X_Container_Meta_Temp_URL_Key=KEY)
    host, port = storage.url.split("/")[2].split(":")
    proxy = FaultProxy(reactor, host, int(port))
    pytest_twisted.blockon(ensureDeferred(proxy.start()))
    redirect = {"above": "100K", "key": KEY, "base_url": f"http://127.0.0.1:{proxy.port}"}
    homeserver = Homeserver(
        folder / "synapse",
        make_ca(folder / "ca"),
        media_storage_providers=[
            entry(container, storage_url=proxy.url_for(storage.url), redirect=redirect)
        ],
        config={"enable_authenticated_media": False},
    )
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: pytest_twisted.blockon(ensureDeferred(proxy.stop())))
        stack.callback(homeserver.stop)
        # In a thread: the proxy runs on this thread's reactor.
        pytest_twisted.blockon(deferToThread(homeserver.start))
        pytest_twisted.blockon(deferToThread(wait_for_line, homeserver, "Clients are redirected"))
        place = Proxied(homeserver, storage, container)
        place.proxy = proxy
        yield place


@pytest.fixture
def place(started: Proxied) -> Iterator[Proxied]:
    yield started
    started.proxy.clear()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_memory_while_swift_is_unreachable(place: Proxied, method: str) -> None:
    """A file in memory is served, also on an endpoint that may redirect."""
    content = b"small" * 100
    uri = await there(place.store, content)
    old = f"/_matrix/media/v3/download/{uri.removeprefix('mxc://')}"
    for _ in range(2):  # never redirected, so nothing is learnt about the size
        assert (await there(place.ask_path, old)).content == content
    place.proxy.add(Answer(503, headers=OUTAGE, times=None))
    answer = await there(place.ask, uri, method)
    assert answer.status_code == 200
    assert answer.content == (content if method == "GET" else b"")
    assert answer.headers["Content-Length"] == str(len(content))


async def test_many_at_once(place: Proxied) -> None:
    """Clients that ask for one small file at the same time cause one HEAD and one GET."""
    content = b"at once" * 700
    uri = await there(place.store, content)
    place.proxy.requests.clear()
    place.proxy.add(stall := Stall(BEFORE_RESPONSE, match=("HEAD", media_path(uri))))
    with ThreadPoolExecutor(MANY) as pool:
        answers = [pool.submit(place.ask, uri) for _ in range(MANY)]
        await stall.happened()
        await there(_wait_for_downloads, place.homeserver, MANY)
        stall.release()
        contents = [(await there(answer.result)).content for answer in answers]
    assert set(contents) == {content}
    # A client whose request Synapse has begun may still be too late to share them.
    asked = place.asked(uri)
    assert asked[0] == "HEAD"
    assert asked.count("HEAD") < MANY / 2
    assert asked.count("GET") < MANY / 2
