"""What an administrator sees when Synapse starts and ends."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from tests.module.conftest import MODULE, MakeEntry
from tests.module.homeservers import FORBIDDEN, Homeserver, media_path, screen_of, there
from tests.module.storage import Storage
from tests.servers import process
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import ON_REQUEST, Answer, Stall
from tests.servers.keystone import Credentials, Keystone
from tests.servers.tls import make_ca


def test_mistyped_option(tmp_path: Path) -> None:
    """An unknown option stops Synapse with its place, its name and the nearest right one."""
    screen = screen_of(tmp_path, {"module": MODULE, "config": {"containr": "media"}})
    assert "'media_storage_providers.<item 0>.config'" in screen
    assert "config.containr is not an option; did you mean 'container'?" in screen
    assert "Traceback" not in screen


def test_no_cloud(tmp_path: Path) -> None:
    """Without credentials anywhere Synapse ends, and its last line says what to write where."""
    screen = screen_of(
        tmp_path, {"module": MODULE, "config": {"container": "media"}}, HOME=str(tmp_path)
    )
    last = screen.strip().splitlines()[-1]
    assert "media_storage_providers, container media: " in last
    assert "clouds.yaml" in last
    assert "direct cause" not in screen, "one traceback at most"


@pytest.fixture(scope="module")
def proxy(storage: Storage) -> Iterator[FaultProxy]:
    from twisted.internet import reactor  # pytest-twisted chooses it

    host, port = storage.url.split("/")[2].split(":")
    started = FaultProxy(reactor, host, int(port))
    pytest_twisted.blockon(ensureDeferred(started.start()))
    yield started
    pytest_twisted.blockon(ensureDeferred(started.stop()))


async def test_start_and_end(
    tmp_path: Path,
    entry: MakeEntry,
    storage: Storage,
    account: Credentials,
    keystone: Keystone,
    proxy: FaultProxy,
) -> None:
    """Each provider says what it is and what is wrong with it; uploads get five seconds to end."""
    mark = uuid4().hex[:6]
    stranger = await there(keystone.create_account, f"p{mark}", f"u{mark}", "only-on-loopback")
    made, missing, foreign, wrong, nowhere, slow = (
        f"{mark}-{name}" for name in ("made", "missing", "foreign", "wrong", "nowhere", "slow")
    )
    password = {**account.auth(), "password": "not-the-password"}
    plain = {"create_container": False}
    entries = [
        entry(made, storage_policy="silver", prefix="matrix"),
        entry(missing, **plain),
        entry(foreign, auth=stranger.auth(), storage_url=storage.url, **plain),
        entry(wrong, auth=password, **plain),
        entry(nowhere, region_name="RegionNowhere", **plain),
        entry(slow, waits=False, storage_url=proxy.url_for(storage.url)),
    ]
    for some in entries[1:5]:
        some.update(store_local=False, store_remote=False)
    homeserver = Homeserver(
        tmp_path / "synapse", make_ca(tmp_path / "ca"), media_storage_providers=entries
    )
    with contextlib.ExitStack() as stack:
        stack.callback(homeserver.stop)
        outage = Answer(503, headers={"Retry-After": "3600"}, match=("HEAD", slow))
        proxy.add(outage)
        await there(homeserver.start)
        verdicts = [f"Created the Swift container {made}"]
        verdicts += [f"container {name} cannot be used" for name in (missing, wrong, nowhere, slow)]
        verdicts.append(f"may not look at the Swift container {foreign},")
        log = await there(_log_with, homeserver, verdicts)
        assert not FORBIDDEN.search(log)
        _check_hello(log, made)
        assert (await there(storage.head, made))["X-Storage-Policy"] == "silver"
        assert f"no container '{missing}' here" in _line(log, "ERROR", missing)
        assert "403" in _line(log, "WARNING", f"container {foreign},")
        assert "refuses the options auth_type and auth" in _line(log, "ERROR", wrong)
        assert "RegionOne" in _line(log, "ERROR", nowhere)
        assert "not-the-password" not in log
        for name in (missing, foreign, wrong, nowhere):
            assert "store_local and store_remote are both false" in _line(log, "WARNING", name)
        # The check at start could not create this container. The first upload creates it.
        uri = await there(homeserver.user.upload, b"first")
        await there(storage.wait_for, slow, media_path(uri))
        stall = Stall(ON_REQUEST, match=("PUT", "local_content"))
        proxy.add(stall)
        uri = await there(homeserver.user.upload, b"on its way")
        await stall.happened()
        began = time.monotonic()
        await there(homeserver.stop)
        assert 4 < time.monotonic() - began < 14, "in-flight uploads get 5 seconds"
        assert uri.rsplit("/", 1)[1][4:] in homeserver.log.read_text().split("before these")[1]
        proxy.clear()
        await there(homeserver.start)
        began = time.monotonic()
        await there(homeserver.stop)
        assert time.monotonic() - began < 10, "nothing delays an idle Synapse"


def _check_hello(log: str, container: str) -> None:
    hello = next(line for line in log.splitlines() if f"container {container}," in line)
    for part in (" INFO ", "prefix matrix/", "region RegionOne", "store_local true"):
        assert part in hello
    assert "store_remote true, store_synchronous true" in hello


def _line(log: str, level: str, part: str) -> str:
    return " ".join(line for line in log.splitlines() if f" {level} " in line and part in line)


def _log_with(homeserver: Homeserver, patterns: list[str]) -> str:
    """The log, once each pattern is in it."""
    deadline = time.monotonic() + 40
    while True:
        log = homeserver.log.read_text()
        absent = [pattern for pattern in patterns if not re.search(pattern, log)]
        if not absent:
            return log
        assert time.monotonic() < deadline, f"not in the log: {absent}\n{log[-3000:]}"
        time.sleep(process.POLL_SECONDS)
