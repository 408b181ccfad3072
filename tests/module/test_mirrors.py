"""A homeserver whose media are in two Swifts, with different sign-ins and owners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.module.conftest import MakeEntry
from tests.module.homeservers import FORBIDDEN, Homeserver, media_path, there
from tests.module.storage import Storage
from tests.module.test_faults import noise
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials, Keystone
from tests.servers.swift import Swift
from tests.servers.swift_account import Account
from tests.servers.tls import make_ca

FILE = bytes(range(256)) * 12_000  # 3 MB


@dataclass
class Mirrored:
    """:ivar proxy: on the way to the first Swift.
    :ivar second: the account in the other one.
    """

    here: Homeserver
    proxy: FaultProxy
    first: Account
    second: Account
    container: str

    async def metric(self, name: str, member: str) -> float:
        """One of a member's."""
        samples = await there(self.here.metrics)
        (value,) = (
            value
            for sample, value in samples.items()
            if sample.startswith(f"synapse_swift_member_{name}{{") and f'"{member}"' in sample
        )
        return value

    async def wait(self, name: str, member: str, wanted: float) -> None:
        """Until a metric has this value."""
        deadline = reactor.seconds() + 60
        while await self.metric(name, member) != wanted:
            assert reactor.seconds() < deadline
            await deferLater(reactor, 0.1)

    async def replace_first(self, uri: str, content: bytes) -> None:
        """Give the first Swift another object for a file, past Synapse."""
        path = media_path(uri)
        await there(partial(self.first.call, "PUT", self.container, path, data=content))

    async def stop_first(self) -> None:
        """The first Swift refuses connections, and loses those it has."""
        await self.proxy.refuse()
        self.proxy.reset_open()

    async def start_first(self) -> None:
        """It works again, and nothing is owed to it."""
        self.proxy.accept_again()
        await self.wait("up", "first", 1)
        await self.wait("debts", "first", 0)


@pytest.fixture(scope="module")
def mirrored(
    tmp_path_factory: pytest.TempPathFactory,
    entry: MakeEntry,
    storage: Storage,
    keystone: Keystone,
    account: Credentials,
    second_swift: Swift,
) -> Iterator[Mirrored]:
    """One homeserver, for all tests."""
    folder: Path = tmp_path_factory.mktemp("mirrored")
    host, port = storage.url.split("/")[2].split(":")
    proxy = FaultProxy(reactor, host, int(port))
    pytest_twisted.blockon(ensureDeferred(proxy.start()))
    container = uuid4().hex[:8]
    mirror = {
        **second_swift.tempauth_options(),
        "name": "second",
        "container": container,
        "create_container": True,
    }
    here = Homeserver(
        folder / "here",
        make_ca(folder / "ca"),
        media_storage_providers=[
            entry(
                container,
                name="first",
                storage_url=proxy.url_for(storage.url),
                mirrors=[mirror],
                memory_cache=0,
            )
        ],
    )
    try:
        pytest_twisted.blockon(deferToThread(here.start))
        pytest_twisted.blockon(deferToThread(here.wait_for_containers, 2))
        first = Account(lambda: keystone.token(account), storage.url)
        yield Mirrored(here, proxy, first, second_swift.tempauth_account, container)
        log = here.log.read_text()
        assert not [line for line in log.splitlines() if FORBIDDEN.search(line)]
        assert "Traceback" not in log
    finally:
        pytest_twisted.blockon(deferToThread(here.stop))
        pytest_twisted.blockon(ensureDeferred(proxy.stop()))


async def test_each_member_is_named_at_start(mirrored: Mirrored) -> None:
    """The log says where the media are, and that both containers can be used."""
    log = mirrored.here.log.read_text()
    assert f"Media in Swift: first, container {mirrored.container}, " in log
    assert f"The media are mirrored: second, container {mirrored.container}, " in log


async def test_a_file_is_in_both(mirrored: Mirrored) -> None:
    """An upload that Synapse waits for ends when both have the file."""
    uri = await there(mirrored.here.user.upload, FILE)
    assert await there(mirrored.first.content, mirrored.container, media_path(uri)) == FILE
    assert await there(mirrored.second.content, mirrored.container, media_path(uri)) == FILE


async def test_the_first_is_down(mirrored: Mirrored) -> None:
    """Files are served and stored all the same; the first gets them when it works again."""
    old = await there(mirrored.here.user.upload, FILE)
    mirrored.here.lose_disk()
    await mirrored.stop_first()
    assert await there(mirrored.here.user.download, old) == FILE
    new = await there(mirrored.here.user.upload, FILE[1:])
    assert await mirrored.metric("debts", "first") == 1
    mirrored.here.lose_disk()
    assert await there(mirrored.here.user.download, new) == FILE[1:]
    await mirrored.start_first()
    assert await there(mirrored.first.content, mirrored.container, media_path(new)) == FILE[1:]


async def test_the_second_is_down(mirrored: Mirrored, second_swift: Swift) -> None:
    """The members stand in for each other in both directions."""
    second_swift.kill()
    try:
        uris = [await there(mirrored.here.user.upload, FILE[n:]) for n in range(4)]
        assert await mirrored.metric("up", "second") == 0
        mirrored.here.lose_disk()
        for number, uri in enumerate(uris):
            assert await there(mirrored.here.user.download, uri) == FILE[number:]
    finally:
        second_swift.start()
    await mirrored.wait("debts", "second", 0)
    for number, uri in enumerate(uris):
        path = media_path(uri)
        content = await there(mirrored.second.content, mirrored.container, path)
        assert content == FILE[number:]


async def test_what_neither_has(mirrored: Mirrored) -> None:
    """A file that is nowhere is not found; while one is down, nobody knows."""
    uri = await there(mirrored.here.user.upload, FILE)
    mirrored.here.lose_disk()
    for account in (mirrored.first, mirrored.second):
        await there(account.lose, mirrored.container, media_path(uri))
    assert await there(mirrored.here.download_status, uri) == 404
    await mirrored.stop_first()
    assert await there(mirrored.here.download_status, uri) == 503
    await mirrored.start_first()


async def test_the_first_refuses_and_the_second_lacks_it(mirrored: Mirrored) -> None:
    """The first may have the file, so the client may try again; the log has the reason."""
    uri = await there(mirrored.here.user.upload, FILE)
    mirrored.here.lose_disk()
    await there(mirrored.second.lose, mirrored.container, media_path(uri))
    mirrored.here.new_log()
    mirrored.proxy.add(Answer(403, times=None, match=("GET", media_path(uri))))
    assert await there(mirrored.here.download_status, uri) == 503
    (line,) = [line for line in mirrored.here.new_log() if " ERROR " in line]
    assert f"Cannot fetch {media_path(uri)}: first: " in line
    assert "access denied" in line
    mirrored.proxy.clear()
    assert await there(mirrored.here.user.download, uri) == FILE
    await mirrored.wait("debts", "second", 0)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("length", [1000, len(FILE) + 1])
async def test_the_first_has_another_length(mirrored: Mirrored, length: int, method: str) -> None:
    """The file comes from the second, within the same request; one line of the log says why."""
    uri = await there(mirrored.here.user.upload, FILE)
    mirrored.here.lose_disk()
    await mirrored.replace_first(uri, (FILE + FILE)[-length:])
    mirrored.here.new_log()
    for _ in range(2):
        answer = await there(mirrored.here.user.request, method, uri)
        assert answer.headers["Content-Length"] == str(len(FILE))
        assert answer.content == (FILE if method == "GET" else b"")
    lines = [line for line in mirrored.here.new_log() if "wrong object" in line]
    assert len(lines) == 1
    for part in (" WARNING ", f" {method}-", media_path(uri), "first: ", "comes from second"):
        assert part in lines[0]
    ranged = await there(mirrored.here.user.request, "GET", uri, {"Range": "bytes=2000-2999"})
    assert ranged.content == FILE[2000:3000]


async def test_both_have_another_length(mirrored: Mirrored) -> None:
    """The client gets an error, as without mirrors."""
    uri = await there(mirrored.here.user.upload, FILE)
    mirrored.here.lose_disk()
    await mirrored.replace_first(uri, FILE[1:])
    path = media_path(uri)
    await there(partial(mirrored.second.call, "PUT", mirrored.container, path, data=FILE[2:]))
    mirrored.here.new_log()
    assert await there(mirrored.here.download_status, uri) == 500
    (line,) = [line for line in mirrored.here.new_log() if " ERROR " in line]
    assert f"has {len(FILE) - 1} bytes, but Synapse's database says {len(FILE)}" in line


async def test_the_first_has_another_length_than_is_pulled_back(mirrored: Mirrored) -> None:
    """The file that Synapse makes a thumbnail of comes from the second, too."""
    content = noise()
    uri = await there(mirrored.here.user.upload, content, "image/png")
    path = media_path(uri)
    for account in (mirrored.first, mirrored.second):
        for name in await there(account.names, mirrored.container):
            if name.startswith(path.replace("local_content", "local_thumbnails")):
                await there(account.lose, mirrored.container, name)
    mirrored.here.lose_disk()
    await mirrored.replace_first(uri, content[:-500])
    assert await there(mirrored.here.user.thumbnail, uri, 96, 96)
    assert (mirrored.here.media_store / path).read_bytes() == content
